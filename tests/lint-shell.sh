#!/bin/sh
# Lints the shell that runs on clusters: each command as it is put together, below the settings that are put before it.
set -eu
cd "$(dirname "$0")/.."
trap 'rm -rf build/shell' EXIT
mkdir -p build/shell
python3 - <<'COMMANDS'
import pathlib
import runpy
scripts = runpy.run_path("airflow_brayns/cluster/scripts/__init__.py")
settings = """scheduler nodes idle_limit start_timeout time_limit heartbeat_limit cpus_per_task proofs shared place dir token ffmpeg proved look
              state_dir keeper keeper_length about asked refusals slurms_own unspecified choosy nodes_wanted partitions python""".split()
head = "#!/bin/sh\n" + "".join(f"{name}=$1\n" for name in settings)
for command in scripts["COMMANDS"]:  # with its comments, which tell shellcheck what is meant; they are not sent
    pathlib.Path(f"build/shell/{command}.sh").write_text(head + "".join(map(scripts["file_text"], scripts["COMMANDS"][command])))
rendering = pathlib.Path("airflow_brayns/rendering")
pathlib.Path("build/shell/frames.sh").write_text(head + scripts["file_text"]("common")
                                                    + "".join((rendering / name).read_text() for name in ("frames.sh", "ffmpeg.sh", "check.sh")))
COMMANDS
# SC2034, SC2329, SC2317: what a file does not use, the calls behind it do; SC3067, SC3043: dash, busybox and bash know `test -O` and `local`
shellcheck -e SC2034,SC2329,SC2317,SC3067,SC3043 build/shell/*.sh
shellcheck -s bash -e SC2154,SC2034 airflow_brayns/rendering/encode.sh # SC2154: what is set above
shellcheck tests/setup.sh tests/demo.sh tests/lint-shell.sh tests/ui/setup.sh .ci/run
