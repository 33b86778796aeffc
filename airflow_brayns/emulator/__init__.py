"""A small braynsService stand-in that renders: the embedded default where no braynsService is installed.

It speaks the three command lines and the JSON-RPC protocol of braynsService 1.1.0, 2.0.0 and 3.10.1 as far as rendering needs
them, and reproduces their faults on request (`BRAYNS_EMULATOR`, see `airflow_brayns.emulator.faults`).
"""
