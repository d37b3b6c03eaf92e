"""Files that a program writes and that are committed all the same: are they what the program writes today?

`python -m tests.generated` checks (part of `make check`), `--write` brings them up to date (`make generated`).
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED: dict[str, tuple[str, ...]] = {
    # For people and for other languages' clients, without starting anything.
    "docs/openapi.json": ("-m", "control_plane", "openapi"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="bring the files up to date")
    write = parser.parse_args().write
    stale = 0
    for path, command in GENERATED.items():
        result = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        if result.returncode:
            print(f"{path}: `python {' '.join(command)}` failed:\n{result.stderr[-2000:]}")
            return 1
        file = ROOT / path
        if file.exists() and file.read_text() == result.stdout:
            print(f"{path}: fresh")
        elif write:
            file.write_text(result.stdout)
            print(f"{path}: written")
        else:
            stale += 1
            print(f"{path}: is not what `python {' '.join(command)}` prints: run `make generated` and commit it")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
