"""The page in a real browser: no error on the console, every plot drawn, tables sortable, readable on a phone and in the dark."""

import shutil

import broken_models as broken
import pytest
from ase.io import write
from test_report_page import write_folder
from test_report_structures import steps

from equipot.analysis.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to test the page in a browser")
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium to test the page in a browser")
PATIENCE = 120_000  # ms: a busy machine draws 3D slowly without a GPU

ALL_DRAWN = "() => { const p = [...document.querySelectorAll('.plot')]; return p.length && p.every((plot) => Number(plot.dataset.drawn)); }"

PROBE = """() => {
  const root = document.documentElement;
  const brightness = () => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
  const table = document.querySelector("table.sortable"), head = table.tHead.rows[0].cells[2].querySelector("button");
  const sizes = (chosen) => Math.min(...[...document.querySelectorAll(chosen)].map((e) => parseFloat(getComputedStyle(e).fontSize)));
  const column = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[2].dataset.key));
  const found = {
    width: root.clientWidth, content: root.scrollWidth, brightness: brightness(),
    views: [...document.querySelectorAll(".stage")]
      .map((v) => ({ name: v.dataset.view, atoms: Number(v.dataset.drawn || 0), canvas: v.querySelector("canvas")?.width })),
    plots: [...document.querySelectorAll(".plot")]
      .map((p) => ({ name: p.id, traces: Number(p.dataset.drawn || 0), width: p.querySelector(".main-svg")?.clientWidth, room: p.clientWidth })),
    text: sizes("td, p, figcaption, label, button"), ticks: sizes(".plot text"),
  };
  head.click(); found.up = column();
  head.click(); found.down = column();
  document.querySelector(".view .after").click(); found.shown = document.querySelector(".view .which").value;
  document.getElementById("theme").click(); found.other = brightness();
  return found;
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_folder(folder, broken.small_potential(scale=2.0))
    write(folder / "md" / "nve.extxyz", steps(10))
    return write_report(folder)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as programs:
        chromium = programs.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"], timeout=PATIENCE
        )
        yield chromium
        chromium.close()


def opened(browser, page, width: int, dark: bool):
    """The page in a tab, and the list to which it adds what is written on the console."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", device_scale_factor=0.5)
    tab.set_default_timeout(PATIENCE)
    console = []
    tab.on("console", lambda message: "GL Driver Message" in message.text or console.append(message.text))
    tab.on("pageerror", lambda error: console.append(str(error)))
    tab.goto(page.as_uri())
    return tab, console


def look(tab) -> dict:
    """What the probe finds when all is drawn."""
    for stage in tab.query_selector_all(".stage"):  # a view draws itself when it comes near
        stage.scroll_into_view_if_needed()
        tab.wait_for_function("(stage) => stage.dataset.drawn", arg=stage)
    tab.wait_for_function(ALL_DRAWN)
    return tab.evaluate(PROBE)


@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)])
def test_in_a_browser(browser, page, width, dark):
    tab, console = opened(browser, page, width, dark)
    found = look(tab)
    tab.close()
    assert console == []
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


def test_errors_are_seen(browser, page, tmp_path):
    """A page whose script fails is noticed."""
    broken_page = tmp_path / "broken.html"
    broken_page.write_text(page.read_text().replace('document.querySelectorAll("table.sortable").forEach(sortable);', "nothing.here();"))
    tab, console = opened(browser, broken_page, 1280, False)
    tab.close()
    assert console == ["nothing is not defined"]
