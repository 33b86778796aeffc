"""What is wanted of a service, in lines that no version changes: by them a next try knows the service that it asked for."""

from __future__ import annotations

import shlex

from airflow_brayns.brayns.command import GENERATIONS, ServiceSpec


def identity(spec: ServiceSpec) -> str:
    """The lines by which 0.2.0 started such a service.

    They are never run. `ServiceSpec.script`, which is, may change with each version; if the digest of a request were made of
    it, the next try of a task that a former version had begun would give its nodes back. What comes to
    `ServiceSpec` later is added to these lines only where it is not its default.
    """
    lines = [f"export {name}={shlex.quote(str(value))}" for name, value in spec.environment.items()]
    if spec.setup.strip():
        lines += [
            'trap \'code=$?; [ "${#BASH_SOURCE[@]}" -gt 1 ] || '
            '{ echo "airflow-brayns: setup failed with exit code $code"; exit 97; }\' ERR',
            spec.setup.strip(),
            "trap - ERR",
        ]
    program = shlex.quote(spec.executable)
    if spec.container:
        program = f"{spec.container} {program}".strip()
    else:
        lines.append(
            f"command -v {program} >/dev/null || "
            f"{{ printf 'airflow-brayns: executable %s not found on %s\\n' {program} \"$(hostname)\"; exit 127; }}"
        )
    if spec.generation is not None:
        return "\n".join([*lines, f"exec {program} {' '.join(_options(spec, spec.generation))}", ""])
    cases = [f"{number}.*) exec {program} {' '.join(_options(spec, number))} ;;" for number in GENERATIONS]
    if spec.certificate_file:
        cases[0] = "1.*) echo 'airflow-brayns: generation 1 of braynsService has no TLS'; exit 95 ;;"
    lines += [
        f"version=$({program} --version 2>&1)",
        "code=$?",
        "version=$(printf '%s\\n' \"$version\" | grep -Eo '[0-9]+[.][0-9]+[.][0-9]+' | head -n 1)",
        'case "$version" in',
        *cases,
        "*) [ $code -lt 128 ] || exit $code; echo \"airflow-brayns: no generation of the command line for version '$version'\"; exit 96 ;;",
        "esac",
    ]
    return "\n".join([*lines, ""])


def _options(spec: ServiceSpec, generation: int) -> list[str]:
    """The options, as 0.2.0 gave them."""
    address = f'{shlex.quote(spec.host + ":")}"$AB_PORT"'
    plugins = [word for plugin in spec.plugins for word in ("--plugin", shlex.quote(plugin))]
    if generation == 1:
        return ["--http-server", address, *plugins]
    common = ["--uri", address, "--max-clients", str(spec.max_clients), *plugins]
    if spec.certificate_file:
        common += ["--secure", "true", "--private-key-file", _in_folder(spec.private_key_file)]
        common += ["--certificate-file", _in_folder(spec.certificate_file)]
    return common if generation == 2 else [*common, "--log-level", spec.log_level]


def _in_folder(path: str) -> str:
    inside = path.removeprefix("$AB_FOLDER/")
    return shlex.quote(path) if inside == path else f'"$AB_FOLDER"/{shlex.quote(inside)}'
