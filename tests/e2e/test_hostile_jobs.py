"""What a user writes into scripts, options, names and arguments is never read by a shell of ours.

Each of them tries to make a canary. Either the submission is refused with a code, or the job runs
and finds exactly what was written. Where the canary would stand, nothing stands afterwards, at home
and at the host alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfed.errors import InputError
from tests.e2e.federation import Federation

ECHO = "#!/bin/bash\nprintf '%s\\0' \"$@\"\n"


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    with Federation.found("alpha", "beta", opened=("beta",)) as made:
        made.start()
        made.until_offers(1)
        yield made
        for centre in made:
            assert "Traceback" not in centre.log


@pytest.fixture
def canary(federation: Federation) -> Iterator[Path]:
    path = federation.root / "canary"
    yield path
    assert not path.exists()


def injections(canary: Path) -> list[str]:
    touch = f"touch {canary}"
    return [
        f"; {touch}",
        f"$({touch})",
        f"`{touch}`",
        f"| {touch} #",
        f"&& {touch}",
        f"\n{touch}\n",
        f"'; {touch}; '",
        f'"; {touch}; "',
        f"--wrap={touch}",
        "-o/etc/passwd",
        "--",
        "${IFS}*?[a-z]~",
        "\\",
    ]


def test_arguments_and_variables_reach_the_script_as_they_were_written(
    federation: Federation, canary: Path
) -> None:
    alpha = federation["alpha"]
    said = injections(canary)
    script = ECHO + "printf '%s' \"$HOSTILE\"\n"
    job_id = alpha.submit(script, *said, environment={"HOSTILE": said[1] + said[5]})
    assert alpha.until_over([job_id])[job_id]["state"] == "completed"
    assert alpha.output(job_id) == "\0".join([*said, said[1] + said[5]])


@pytest.mark.parametrize("field", ["name", "stdout", "fetch", "work_class"])
def test_every_other_text_of_a_request_is_refused_or_harmless(
    field: str, federation: Federation, canary: Path
) -> None:
    texts = injections(canary)
    values = [[text] for text in texts] if field == "fetch" else texts
    asked = [submitted(federation, "#!/bin/sh\ntrue\n", **{field: value}) for value in values]
    codes = {code for _, code in asked if code}
    assert all(code.startswith(("script-", "request-", "job-")) for code in codes)
    ran = [job_id for job_id, _ in asked if job_id]
    views = federation["alpha"].until_over(ran, deadline_s=120) if ran else {}
    assert {view["state"] for view in views.values()} <= {"completed"}


def submitted(federation: Federation, script: str, **request: object) -> tuple[str, str]:
    """The job's id, or the code with which it was refused."""
    try:
        return federation["alpha"].submit(script, **request), ""
    except InputError as error:
        return "", error.code


def directives(canary: Path) -> list[str]:
    touch = f"touch {canary}"
    return [
        f"#SBATCH --wrap='{touch}'",
        f"#SBATCH --job-name=$({touch})",
        f"#SBATCH -J `{touch}`; {touch}",
        "#SBATCH --output=/etc/cron.d/x",
        "#SBATCH --output=../../x",
        f"#SBATCH --chdir=/ ; {touch}",
        f"#SBATCH --export=ALL,X=$({touch})",
        f"#SBATCH --time=1; {touch}",
        f"#SBATCH --prolog={touch}",
        f'#SBATCH --comment="{touch}',
        f"#P2PFED --fetch='$({touch})'",
        f"#P2PFED --env X=`{touch}`",
        "#SBATCH --uid=0",
        "#SBATCH --get-user-env",
        "#SBATCH \x1b]0;x\x07",
    ]


def test_directives_are_read_by_our_own_grammar_alone(federation: Federation, canary: Path) -> None:
    scripts = [f"#!/bin/sh\n{line}\necho ran\n" for line in directives(canary)]
    asked = [submitted(federation, script) for script in scripts]
    codes = [code for _, code in asked if code]
    assert len(codes) >= 3 and all(code.startswith("script-") for code in codes)
    ran = [job_id for job_id, _ in asked if job_id]
    views = federation["alpha"].until_over(ran, deadline_s=120) if ran else {}
    assert {view["state"] for view in views.values()} <= {"completed"}
