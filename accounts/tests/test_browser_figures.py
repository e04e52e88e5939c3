"""plotly.js draws under the content security policy of every page, by way of ``inc/plotly.html``."""

import pytest
from django.template.loader import render_to_string
from django.urls import reverse
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)

DRAW = """async () => {
    const figure = document.createElement("div");
    document.querySelector("main").append(figure);
    const layout = {title: {text: "a <b>bold</b> <span style='color:red'>title</span>"}, hovermode: "x unified",
                    xaxis: {rangeslider: {visible: true}}, width: 600, height: 400};
    await Plotly.newPlot(figure, [{y: [1, 3, 2], name: "a"}, {y: [2, 1, 2], line: {dash: "dot"}}], layout);
    await Plotly.extendTraces(figure, {y: [[4]]}, [0]);
    const box = figure.querySelector(".nsewdrag").getBoundingClientRect();
    Plotly.Fx.hover(figure, [{curveNumber: 0, pointNumber: 1}, {curveNumber: 1, pointNumber: 1}]);
    await new Promise((done) => setTimeout(done, 100));
    const picture = await Plotly.toImage(figure, {format: "png"});
    return {points: figure.data[0].y.length, hover: figure.querySelectorAll(".hoverlayer text").length > 0,
            rules: document.getElementById("plotly.js-style-global").sheet.cssRules.length,
            picture: picture.slice(0, 15), width: box.width > 100};
}"""


def test_a_figure_needs_no_exception_from_the_policy(chromium: Browser, live_server: LiveServer) -> None:
    problems: list[str] = []
    context = chromium.new_context(base_url=live_server.url)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.route(
        f"**{reverse('login')}",
        lambda route: route.fulfill(
            response=(response := route.fetch()),
            body=response.text().replace("</head>", render_to_string("inc/plotly.html") + "</head>"),
        ),
    )
    page.goto(reverse("login"))
    page.wait_for_function("window.Plotly")
    drawn = page.evaluate(DRAW)
    context.close()
    assert drawn.pop("rules") > 20
    assert drawn == {"points": 4, "hover": True, "picture": "data:image/png;", "width": True}
    assert problems == []
