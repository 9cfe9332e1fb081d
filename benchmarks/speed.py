"""Every benchmark of speed, one after another, and the page `benchmarks/speed.md` of what they found."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cold
import efficiency
import overhead
import peers
import sizes
from common import HERE, RAW, read_all

PARTS = {"cold": cold, "efficiency": efficiency, "overhead": overhead, "peers": peers, "sizes": sizes}


def page(path: Path) -> str:
    """The whole page, from the rows that are there."""
    rows = read_all(path)
    told = {name: "; ".join(sorted({row[name] for row in rows})) for name in ("machine", "versions", "date")}
    minutes = sum(row["minutes"] for row in rows)
    lines = ["# Speed\n"]
    lines += [
        f"Written by `python benchmarks/speed.py` from {len(rows)} rows, {minutes:.0f} minutes of work, {told['date']}."
    ]
    lines += [f"Machine: {told['machine']}. {told['versions']}.\n"]
    lines += ["Comparisons are ratios of what one process measured side by side, or of processes run in turn."]
    for part in PARTS.values():
        lines += ["", *part.report(path)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is asked for, each script in a process of its own, and write the page; ends with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seeds", type=int, default=10, help="of the efficiency table")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this text in their names")
    parser.add_argument("--resume", action="store_true", help="keep rows that are there already")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the page of the rows there are")
    parser.add_argument("--rows", type=Path, default=RAW, help="file of results, a JSON object a line")
    parser.add_argument("--out", type=Path, default=HERE / "speed.md")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    failed = []
    for part in () if options.tables else options.parts or PARTS:
        asked = ["--rows", str(options.rows), "--draws", str(options.draws), "--only", options.only]
        asked += ["--resume"] if options.resume else []
        asked += ["--seeds", str(options.seeds)] if part == "efficiency" else []
        print(f"== {part}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{part}.py"), *asked]).returncode:
            failed.append(part)
        options.out.write_text(page(options.rows))
    options.out.write_text(page(options.rows))
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
