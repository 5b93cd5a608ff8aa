"""The page in a real browser: no error on the console, every plot drawn, tables sortable, readable on a phone and in the dark."""

import html
import json
import re
import shutil
import subprocess

import broken_models as broken
import pytest
from ase.io import write
from test_report_page import write_folder
from test_report_structures import steps

from equipot.analysis.report import write_report

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium to test the page in a browser")

PROBE = """
<script>
const inner = document.querySelector("iframe"), began = Date.now();
let page, waiting;

// Plots and views draw themselves in their own time; a view when it comes near.
function ready() {
  page = inner.contentDocument;
  const stage = [...page.querySelectorAll(".stage")].find((s) => !s.dataset.drawn);
  if (stage && stage !== waiting) {
    waiting = stage;
    stage.scrollIntoView();
  }
  inner.contentWindow.requestAnimationFrame(() => {}); // without one, no frame is made and nothing comes near
  return !stage && [...page.querySelectorAll(".plot")].every((p) => Number(p.dataset.drawn)) && page.querySelector(".plot");
}

function brightness() {
  return getComputedStyle(page.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
}

function probe() {
  const root = page.documentElement;
  const table = page.querySelector("table.sortable"), head = table.tHead.rows[0].cells[2].querySelector("button");
  const sizes = (chosen) => Math.min(...[...page.querySelectorAll(chosen)].map((e) => parseFloat(getComputedStyle(e).fontSize)));
  const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.key));
  const found = {
    width: root.clientWidth, content: root.scrollWidth, brightness: brightness(),
    views: [...page.querySelectorAll(".stage")]
      .map((v) => ({ name: v.dataset.view, atoms: Number(v.dataset.drawn || 0), canvas: v.querySelector("canvas")?.width })),
    plots: [...page.querySelectorAll(".plot")]
      .map((p) => ({ name: p.id, traces: Number(p.dataset.drawn || 0), width: p.querySelector(".main-svg")?.clientWidth, room: p.clientWidth })),
    text: sizes("td, p, figcaption, label, button"), ticks: sizes(".plot text"),
  };
  head.click(); found.up = column();
  head.click(); found.down = column();
  page.querySelector(".view .after").click(); found.shown = page.querySelector(".view .which").value;
  page.getElementById("theme").click(); found.other = brightness();
  document.title = JSON.stringify(found);
}

const poll = setInterval(() => {
  if (inner.contentDocument?.readyState === "complete" && (ready() || Date.now() - began > 60000)) {
    clearInterval(poll);
    probe();
  }
}, 200);
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_folder(folder, broken.small_potential(scale=2.0))
    write(folder / "md" / "nve.extxyz", steps(10))
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
        "--enable-unsafe-swiftshader",  # 3D without a GPU
        "--force-device-scale-factor=0.5",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
    ]
    options += [
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1000",
        "--virtual-time-budget=90000",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    options += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([CHROMIUM, *options, outer.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    title = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1])
    return json.loads(title), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line and "GL Driver Message" not in line)


@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)])
def test_in_a_browser(page, tmp_path, width, dark):
    found, console = look(page, tmp_path, width, dark)
    assert console == ""
    assert len(found["plots"]) >= 10
    assert all(p["traces"] >= 1 for p in found["plots"]), found["plots"]
    assert all(p["width"] <= p["room"] for p in found["plots"])
    assert found["width"] <= width and found["content"] <= found["width"]
    assert found["text"] >= 12 and found["ticks"] >= 11
    assert found["up"] == sorted(found["up"]) and found["down"] == found["up"][::-1] and len(set(found["up"])) > 1
    assert found["brightness"] < 150 if dark else found["brightness"] > 600
    assert found["other"] > 600 if dark else found["other"] < 150
    assert {v["name"]: v["atoms"] for v in found["views"]} == {"worst": 3, "film-0": 3} and all(v["canvas"] for v in found["views"])
    assert found["shown"] == "1"


def test_the_probe_sees_errors(page, tmp_path):
    """A page whose script fails is noticed."""
    broken_page = tmp_path / "broken.html"
    broken_page.write_text(page.read_text().replace('document.querySelectorAll("table.sortable").forEach(sortable);', "nothing.here();"))
    with pytest.raises((AssertionError, TypeError, json.JSONDecodeError)):
        _, console = look(broken_page, tmp_path, 1280, False)
        assert console == ""
