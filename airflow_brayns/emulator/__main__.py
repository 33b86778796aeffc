from airflow_brayns.emulator.command_line import main

main()
