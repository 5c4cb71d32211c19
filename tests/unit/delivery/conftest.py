import shutil
from pathlib import Path

import pytest

from cd4ml.base.settings import Settings, load_settings


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> Settings:
    """Return the settings of a workbench of one's own with the steps of this one."""
    for name in ("settings.ini", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, tmp_path / name)
    for name in ("nbs/steps", "params/iris"):
        shutil.copytree(root / name, tmp_path / name)
    return load_settings(tmp_path, environ={})
