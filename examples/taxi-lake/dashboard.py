"""A dashboard over the server, through the stock driver of Flight SQL: the artifact of the pipeline a month, and the
longest trips themselves. TAXI_URL says where the server is."""

import os

import adbc_driver_flightsql.dbapi
import streamlit


@streamlit.cache_data(ttl=60)
def ask(sql, *parameters):
    """The rows of a query. Every page runs in a thread of its own, and a connection is for one thread."""
    with (
        adbc_driver_flightsql.dbapi.connect(os.environ["TAXI_URL"], autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table().to_pandas()


streamlit.title("Taxi trips")
months = ask("SELECT DISTINCT strftime(day, '%Y-%m') AS month FROM zone_days ORDER BY month")
month = streamlit.selectbox("Month", months["month"], index=len(months) - 1)

zones = ask("FROM queries.zones(month := CAST(? AS DATE))", f"{month}-01")
trips, fares = streamlit.columns(2)
trips.metric("Trips", f"{zones['trips'].sum():,}")
fares.metric("Fares", f"{zones['fares'].sum():,.2f}")
streamlit.bar_chart(zones, x="zone", y="trips")
streamlit.dataframe(zones, hide_index=True)

zone = streamlit.selectbox("Zone", zones["zone"])
# A chart draws no decimals.
days = ask(
    "SELECT day, fares::DOUBLE AS fares, tips::DOUBLE AS tips"
    " FROM queries.days(zone := ?, month := CAST(? AS DATE)) ORDER BY day", zone, f"{month}-01"
)  # fmt: skip
streamlit.line_chart(days, x="day", y=["fares", "tips"])

# The lake itself: the files of one month, of which the server reads no other.
year, number = map(int, month.split("-"))
streamlit.subheader("Longest trips of the month")
streamlit.dataframe(
    ask("SELECT pickup, zone, kilometres, fare FROM trips WHERE year = ? AND month = ?"
        " ORDER BY kilometres DESC, pickup LIMIT 10", year, number),
    hide_index=True,
)  # fmt: skip
