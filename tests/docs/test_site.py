"""The documentation's site: it is built without a warning, needs nothing from elsewhere, and its equations are drawn."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
pytest.importorskip("mkdocs", reason='mkdocs is not here: pip install "equipot[docs]" to test the site')
pytest.importorskip("material", reason='mkdocs-material is not here: pip install "equipot[docs]" to test the site')
pytest.importorskip("latex2mathml", reason='latex2mathml is not here: pip install "equipot[docs]" to test the site')


def build(folder: Path, out: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built(site):
    pages = {p.relative_to(DOCS).with_suffix(".html") for p in DOCS.rglob("*.md")}
    assert pages <= {p.relative_to(site) for p in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]*\bsrc="([^"]*)"|<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]*)"', text
        )
        assert not [a or b for a, b in loaded if (a or b).startswith(("http:", "https:", "//"))], page


def test_equations_are_drawn(site):
    theory = (site / "theory.html").read_text(encoding="utf-8")
    assert theory.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 8
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'class="arithmatex"' not in text and "<merror" not in text, page
        assert not re.findall(r"\\(?:frac|sum|mathbf|hat|mathrm|prod)\b", re.sub(r"<code.*?</code>|<pre.*?</pre>", "", text, flags=re.S)), (
            page
        )


def test_the_reference_is_that_of_the_program(site):
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for words in ("equipot train", "equipot evaluate", "equipot data check", "equipot report", "--predictions"):
        assert words in commands
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("equipot.spec.ModelSpec", "equipot.presets.nequip", "equipot.data.readers.read_frames"):
        assert f'id="{name}"' in python


def test_a_broken_link_is_a_failure(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# x\n\n[there](nowhere.md)\n")
    configuration = {"site_name": "x", "theme": "material", "plugins": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(configuration))
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0 and "nowhere.md" in done.stdout + done.stderr
