"""A real browser without a window: Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium")
_POLL_S = 0.5


class Page:
    """An open page. Every call waits for its answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop = loop
        self._socket = socket
        self._last_id = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(asyncio.wait_for(self._send(method, parameters), 60))

    async def _send(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        await self._socket.send_json({"id": self._last_id, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def text(self) -> str:
        """All text that the page shows."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def wait_for(self, expression: str, within_s: float = 90) -> Any:
        """The first value of an expression that counts as true."""
        deadline_s = time.monotonic() + within_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline_s, (
                f"not in {within_s} s: {expression}; the page says {self.text[:2000]}"
            )
            time.sleep(_POLL_S)
        return value

    def wait_for_text(self, text: str) -> None:
        self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str) -> None:
        """Clicks into the middle of the first visible element with this selector, as a mouse does."""
        self._click_on(f"document.querySelector({json.dumps(selector)})")

    def click_text(self, text: str) -> None:
        """Clicks on the innermost element that shows exactly this text."""
        self._click_on(
            f"[...document.querySelectorAll('*')].filter(e => e.innerText?.trim() === {json.dumps(text)})"
            ".filter(e => e.getBoundingClientRect().width > 0).pop()"
        )

    def _click_on(self, element: str) -> None:
        self.wait_for(f"!!({element})")
        measure = "(e => {const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]})"
        before, place = None, self.evaluate(f"{measure}({element})")
        while place != before:  # a list that opens moves its entries
            time.sleep(0.3)
            before, place = place, self.evaluate(f"{measure}({element})")
        x, y, width, height = place
        self.click_at(x + width / 2, y + height / 2)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path


@contextmanager
def opened(url: str, profile: Path, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """Opens a page; the browser ends with the context.

    Args:
        profile: a new folder for the browser's files.
    """
    assert CHROMIUM
    profile.mkdir()
    process = subprocess.Popen(
        [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--enable-unsafe-swiftshader",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "--remote-debugging-port=0",
            "--no-first-run",
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(profile), "PATH": "/usr/bin:/bin"},
    )
    loop = asyncio.new_event_loop()
    closing: list[aiohttp.ClientSession] = []
    try:
        port_file = profile / "DevToolsActivePort"
        deadline_s = time.monotonic() + 60
        while not (port_file.exists() and len(port_file.read_text().splitlines()) == 2):
            assert process.poll() is None and time.monotonic() < deadline_s, "Chromium does not start"
            time.sleep(0.1)
        port = int(port_file.read_text().splitlines()[0])
        session, socket = loop.run_until_complete(_connect(port))
        closing.append(session)
        page = Page(loop, socket)
        page.send("Page.enable")
        page.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        page.send("Page.navigate", url=url)
        yield page
    finally:
        for session in closing:
            loop.run_until_complete(session.close())
        process.terminate()
        process.wait()
        loop.close()


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        targets = await answer.json()
    address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
    return session, await session.ws_connect(address, max_msg_size=0)
