"""Opens the dashboard given as argument without a browser, changes its month, and prints what it shows as JSON. Runs in
the environment with Streamlit, where TAXI_URL and TAXI_HTTP say where the server is."""

import json
import os
import sys
import urllib.request

from streamlit.testing.v1 import AppTest


def trips_by_http(month):
    with urllib.request.urlopen(f"{os.environ['TAXI_HTTP']}/v1/queries/zones?month={month}-01") as answer:
        return sum(row["trips"] for row in json.load(answer)["rows"])


def page(app):
    month = app.selectbox[0].value
    zones, longest = app.dataframe
    return {
        "month": month,
        "exceptions": [exception.value for exception in app.exception],
        "trips": app.metric[0].value,
        "trips by HTTP": trips_by_http(month),
        "rows": {"zones": len(zones.value), "longest": len(longest.value)},
    }


app = AppTest.from_file(sys.argv[1], default_timeout=60).run()
first = page(app)
app.selectbox[0].select("2024-12").run()
print(json.dumps({"months": app.selectbox[0].options, "pages": [first, page(app)]}))
