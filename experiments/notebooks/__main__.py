"""Write the notebooks as ``.ipynb`` files, which Colab and Jupyter open.

python -m experiments.notebooks FOLDER          # without outputs
python -m experiments.notebooks FOLDER --run    # run here, with tables and figures
"""

import argparse
import json
from pathlib import Path

from experiments.notebooks._cells import as_ipynb, read, run

NOTEBOOKS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_"))


def main() -> None:
    """Write all notebooks, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m experiments.notebooks", description=__doc__.splitlines()[0])
    names = [path.stem for path in NOTEBOOKS]
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--run", action="store_true", help="run the cells, and write their outputs too")
    parser.add_argument("--only", choices=names, nargs="+", default=names, help="notebooks to write; by default all")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        if path.stem in arguments.only:
            cells = read(path)
            outputs = run(cells, path.stem) if arguments.run else None
            file = arguments.folder / f"{path.stem}.ipynb"
            file.write_text(json.dumps(as_ipynb(cells, outputs), indent=1) + "\n")
            print(file)


if __name__ == "__main__":
    main()
