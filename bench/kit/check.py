"""Whether the documents say what the results say: for the gate, which measures nothing itself."""

import cells
import report


def run():
    """0, or 1 after a line for each thing that is not as it should be."""
    wrong = [*stale(), *unproven()]
    for line in wrong:
        print(f"bench/run report --check: {line}")
    return 1 if wrong else 0


def stale():
    """Generated parts of documents that are not what the results make."""
    for path, name, section in report.sections():
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if report.placed(text, name, section) != text:
            yield f"the part {name} of {path} is not what the results make: run bench/run report"


def unproven():
    """Targets that were not measured, and missed ones of which the documents do not say why."""
    results, profiles = report.read("full"), report.read("hotspots") or {}
    with open(report.DOCUMENT, encoding="utf-8") as file:
        prose = file.read().split("## Figures")[0]
    for text, key, *_, verdict in report.goals(results)[1:]:
        if verdict == "not measured":
            yield f"{text}: {key} is not measured"
        if "miss" not in verdict:
            continue
        if f"`{key}`" not in prose:
            yield f"{text}: {key} is missed and the prose does not name it"
        # Of a tail no profile of the CPU tells.
        if not text.startswith("added p99") and key in {c.key for c in cells.CELLS} and not profiles.get(
                "hotspots", {}).get(key):
            yield f"{text}: {key} is missed and has no profile: run bench/run hotspots"
