"""The pages as a browser shows them: nothing missing, nothing overlapping, nothing beyond the edge."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from tests.report.task_contents import classification_contents, segmentation_contents
from trivet.report.page import write_audit_page, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
]
WIDTHS = (360, 768, 1400)
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is installed"),
]

# Measures the pages in the frames around which it runs, at once when all is loaded.
PROBE = """
<!DOCTYPE html>
<pre id="result"></pre>
<script>
function clipped(element, rect) {
  const around = element.closest(".scrolled, pre, .chart-box");
  if (!around) return rect;
  const clip = around.getBoundingClientRect();
  return {left: Math.max(rect.left, clip.left), top: Math.max(rect.top, clip.top),
    right: Math.min(rect.right, clip.right), bottom: Math.min(rect.bottom, clip.bottom)};
}
function contents(page) {
  const boxes = [];
  const add = (element, rect, name) => {
    rect = clipped(element, rect);
    // Lines of text may touch: a font's box is higher than its letters.
    const trim = (rect.bottom - rect.top) * .22;
    if (rect.right - rect.left > 2 && rect.bottom - rect.top > 2)
      boxes.push({left: rect.left + 1, right: rect.right - 1, top: rect.top + trim, bottom: rect.bottom - trim, name});
  };
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, style, title, desc, .skip, .unseen, thead")) continue;
    const range = page.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) add(parent, rect, node.data.trim().slice(0, 40));
  }
  for (const image of page.images) add(image, image.getBoundingClientRect(), "picture");
  return boxes.sort((a, b) => a.top - b.top);
}
function overlaps(boxes) {
  const found = [];
  for (let i = 0; i < boxes.length; i++)
    for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom - 1; j++)
      if (Math.min(boxes[i].right, boxes[j].right) - Math.max(boxes[i].left, boxes[j].left) > 1)
        found.push(boxes[i].name + " / " + boxes[j].name);
  return found;
}
function measured(frame) {
  const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const boxes = contents(page);
  const beyond = [...page.body.querySelectorAll("*")].filter(
    one => clipped(one, one.getBoundingClientRect()).right > width + 1 && !one.matches(".skip"));
  return {
    width, scroll: page.documentElement.scrollWidth, texts: boxes.length, overlaps: overlaps(boxes),
    beyond: beyond.map(one => one.tagName + "." + one.getAttribute("class")),
    missing: [...page.images].filter(image => !image.naturalWidth).length,
    paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  };
}
addEventListener("load", () => {
  const rows = [...document.querySelectorAll("iframe")].map(measured);
  document.getElementById("result").textContent = JSON.stringify(rows);
});
</script>
"""


def opened(page: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the page's elements after it has run, and what was written to the console."""
    folder = page.parent / "browser"
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(page: Path, *flags: str) -> list[dict]:
    """Return the probe's measurements of a page at each of `WIDTHS`."""
    # A lazy picture is not waited for, and the policy would hold in the frame around it too.
    text = page.read_text(encoding="utf-8").replace(' loading="lazy"', "")
    inside = escape(re.sub(r"<meta http-equiv[^>]*>", "", text))
    frames = [
        f'<iframe srcdoc="{inside}" width="{width}" height="900" style="border:0"></iframe>'
        for width in WIDTHS
    ]
    around = page.with_name("around.html")
    around.write_text(PROBE + "".join(frames), encoding="utf-8")
    result = re.search(r'<pre id="result">(.*?)</pre>', opened(around, *flags)[0], flags=re.DOTALL)
    assert result is not None, "the probe has not run"
    return json.loads(unescape(result[1]))


@pytest.fixture(scope="module", params=["report", "large", "audit", "segmentation", "classification"])
def page(request, tmp_path_factory, report_contents, large_contents, audit_contents) -> Path:
    write = {
        "report": lambda path: write_report(path, report_contents),
        "large": lambda path: write_report(path, large_contents),
        "audit": lambda path: write_audit_page(path, audit_contents),
        "segmentation": lambda path: write_report(path, segmentation_contents()),
        "classification": lambda path: write_report(path, classification_contents()),
    }
    return write[request.param](tmp_path_factory.mktemp("page") / "page.html")


@pytest.mark.parametrize("flags", [(), (DARK,)], ids=["light", "dark"])
def test_a_page_fits_every_width(page, flags):
    rows = measured(page, *flags)
    assert [row["width"] for row in rows] == list(WIDTHS)
    for row in rows:
        assert row["beyond"] == [], row["width"]
        assert row["scroll"] <= row["width"]
        assert row["overlaps"] == [], row["width"]
        assert row["missing"] == 0
        assert row["texts"] > 50
        dark = sum(map(int, re.findall(r"\d+", row["paper"])[:3])) < 200
        assert dark == bool(flags)


def test_a_page_writes_nothing_to_the_console(page):
    dom, console = opened(page)
    assert console == []
    assert "</footer>" in dom


def test_a_script_that_found_its_way_in_does_not_run(page):
    script = "<script>document.title = 'run'</script></main>"
    changed = page.with_name("changed.html")
    changed.write_text(page.read_text(encoding="utf-8").replace("</main>", script), encoding="utf-8")
    dom, console = opened(changed)
    assert "<title>run</title>" not in dom
    assert "Content Security Policy" in console[0]


def test_the_probe_sees_faults(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!DOCTYPE html><body style='margin:0'><p style='margin:0'>under</p>"
        "<p style='position:absolute;top:2px;left:3px;margin:0'>over</p>"
        "<p style='width:1500px;text-align:right'>beyond</p><img src='data:image/png;base64,AAAA'></body>",
        encoding="utf-8",
    )
    row = measured(page)[0]
    assert row["overlaps"] == ["under / over"] or row["overlaps"] == ["over / under"]
    assert row["scroll"] >= 1500
    assert row["beyond"] == ["P.null"]
    assert row["missing"] == 1
