"""Renews the 3D viewer that report pages carry: 3Dmol.js as published in the npm registry, minified, with its licence.

    python tools/vendor_viewer.py            # the recorded version again
    python tools/vendor_viewer.py 2.5.5      # another one

Writes the two files and vendored.json (version, sha256 of both) beside them. Needs `npm` and its registry.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "equipot" / "analysis" / "report" / "assets" / "vendor"
RECORD = FOLDER / "vendored.json"
PACKAGE = "3dmol"
FILES = {"3Dmol-min.js": "package/build/3Dmol-min.js", "3Dmol-LICENSE.txt": "package/LICENSE"}  # here: in the tarball


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{PACKAGE}@{version}"]
        packed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(Path(folder) / packed) as archive:
            contents = {name: archive.extractfile(member).read() for name, member in FILES.items()}
    for name, content in contents.items():
        (FOLDER / name).write_bytes(content)
    record = {"package": PACKAGE, "version": version, "licence": "BSD-3-Clause"}
    record["sha256"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{PACKAGE} {version}: {', '.join(f'{name} ({len(content):,} bytes)' for name, content in contents.items())}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else json.loads(RECORD.read_text(encoding="utf-8"))["version"])
