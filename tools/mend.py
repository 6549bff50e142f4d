"""Make the project ready for DVC: python tools/mend.py

Refuse links in place of folders that stages write to, before Git and DVC replace one. Remove DVC's
table of locks if a kill has left half of it: DVC writes .dvc/tmp/rwlock in place, and half of it
would stop every later run (https://github.com/treeverse/dvc/issues/7615).
"""

import argparse
import json

from _tool import ROOT, refuse_links

from mnist_pipeline.common.errors import UserError, run_script

TABLE = ROOT / ".dvc/tmp/rwlock"


def main() -> None:
    """Remove an unreadable table. Raises UserError: another process keeps writing it."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    refuse_links()
    if is_readable():
        return
    from dvc.exceptions import DvcException  # slow to import, and hardly ever needed
    from dvc.lock import make_lock
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_LOCK

    try:
        with Repo(str(ROOT)) as repo:
            hardlink = repo.config["core"].get("hardlink_lock", False)
            # DVC writes the table under this lock: under it, half a table is no table in writing.
            with make_lock(
                str(TABLE.with_name(RWLOCK_LOCK)), tmp_dir=repo.tmp_dir, hardlink_lock=hardlink
            ):
                if not is_readable():
                    TABLE.unlink()
    except DvcException as error:
        raise UserError(f"{TABLE.relative_to(ROOT)}: {error}") from None


def is_readable() -> bool:
    """Whether there is no table, or a whole one."""
    try:
        json.loads(TABLE.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    run_script(main)
