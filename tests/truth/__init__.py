"""The emulator held against what a running braynsService 3.10.1 answered, request by request."""
