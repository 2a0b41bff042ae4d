"""Checks of what pages of other origins can do: nothing.

Invariants: the origin that is sent does not exist, so no server can have allowed it.
"""

from __future__ import annotations

from typing import Final

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import JSON, ServerUnderTest, expect_problem
from statestream.tools.conformance.violation import expect

ORIGINS: Final = Section("Browsers")
FOREIGN: Final = "https://conformance.invalid"


@ORIGINS.check("A page of an unknown origin cannot dispatch, not even ask whether it may, nor read what it receives.")
async def foreign_pages(server: ServerUnderTest) -> None:
    before = await server.state()
    for headers in ({"Origin": FOREIGN}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        what = "a dispatch with " + ", ".join(f"{name}: {value}" for name, value in headers.items())
        expect_problem(await server.dispatch(server.action(), headers=headers | JSON), 403, "forbidden_origin", what)
    expect((await server.state()).same(before), "expected foreign pages to change nothing, but the state has changed")
    preflight = {"Origin": FOREIGN, "Access-Control-Request-Method": "POST"}
    answer = await server.request("OPTIONS", "dispatch", {}, headers=preflight)
    expect_problem(answer, 403, "forbidden_origin", "the preflight of a foreign page")
    await server.act()  # without either header: no page
    answer = await server.get("state", headers={"Origin": FOREIGN})
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    expect(allowed is None, f"expected no Access-Control-Allow-Origin for a foreign page, got {allowed}")
