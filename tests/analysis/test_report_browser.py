"""The page in a real browser: no error on the console, every plot drawn, tables sortable, readable on a phone and in the dark."""

import html
import json
import re
import shutil
import subprocess

import broken_models as broken
import pytest
from test_report_page import write_folder

from equipot.analysis.report import write_report

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium to test the page in a browser")

PROBE = """
<script>
const inner = document.querySelector("iframe");
setTimeout(() => {
  const page = inner.contentDocument, root = page.documentElement;
  const plots = [...page.querySelectorAll(".plot")];
  const table = page.querySelector("table.sortable"), head = table.tHead.rows[0].cells[2].querySelector("button");
  const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.key));
  const found = {
    width: root.clientWidth, content: root.scrollWidth, page: getComputedStyle(page.body).backgroundColor,
    plots: plots.map((p) => ({ name: p.id, traces: Number(p.dataset.drawn || 0), width: p.querySelector(".main-svg")?.clientWidth, room: p.clientWidth })),
    text: Math.min(...[...page.querySelectorAll("td, p, figcaption")].map((e) => parseFloat(getComputedStyle(e).fontSize))),
  };
  head.click(); found.up = column();
  head.click(); found.down = column();
  document.title = JSON.stringify(found);
}, 4000);
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_folder(folder, broken.small_potential(scale=2.0))
    return write_report(folder)


def look(page, folder, width: int, dark: bool) -> tuple[dict, str]:
    """What the probe finds in the page at a width, and what was written on the console."""
    outer = folder / "outer.html"
    outer.write_text(
        f'<meta charset="utf-8"><title></title><iframe src="{page.as_uri()}" style="width:{width}px;height:900px;border:0"></iframe>{PROBE}'
    )
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
    ]
    options += [
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1000",
        "--virtual-time-budget=15000",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([CHROMIUM, *options, outer.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    title = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1])
    return json.loads(title), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)])
def test_in_a_browser(page, tmp_path, width, dark):
    found, console = look(page, tmp_path, width, dark)
    assert console == ""
    assert len(found["plots"]) >= 10
    assert all(p["traces"] >= 1 for p in found["plots"]), found["plots"]
    assert all(p["width"] <= p["room"] for p in found["plots"])
    assert found["width"] <= width and found["content"] <= found["width"]
    assert found["text"] >= 12
    assert found["up"] == sorted(found["up"]) and found["down"] == found["up"][::-1] and len(set(found["up"])) > 1
    brightness = sum(map(int, re.findall(r"\d+", found["page"])[:3]))
    assert brightness < 150 if dark else brightness > 600


def test_the_probe_sees_errors(page, tmp_path):
    """A page whose script fails is noticed."""
    broken_page = tmp_path / "broken.html"
    broken_page.write_text(page.read_text().replace('document.querySelectorAll("table.sortable").forEach(sortable);', "nothing.here();"))
    with pytest.raises((AssertionError, TypeError, json.JSONDecodeError)):
        _, console = look(broken_page, tmp_path, 1280, False)
        assert console == ""
