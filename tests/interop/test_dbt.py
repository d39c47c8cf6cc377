"""dbt with its GizmoSQL adapter, unmodified, on the project in dbt_project/: twice, with changed seeds in between.

Its profile is as dbt would have it: a user, a password and TLS.
"""

import json
import shutil

import duckdb
import pytest

import programs

PYTHON = programs.ROOT / ".venv-dbt/bin/python"
COMMANDS = ["seed", "run", "snapshot", "test", "docs generate"]
NODES = {
    "seed": {"customers", "orders"},
    "run": {"stg_orders", "customer_totals", "orders_by_day", "order_log", "big_orders", "from_python"},
    "snapshot": {"customers_over_time"},
    "test": {
        "unique_stg_orders_order_id",
        "not_null_stg_orders_order_id",
        "accepted_values_stg_orders_status__open__shipped__returned",
        "not_null_customer_totals_customer_id",
        "relationships_customer_totals_customer_id__id__ref_customers_",
        "unique_orders_by_day_ordered_on",
        "no_money_is_lost",
    },
    "docs generate": set(),
}
# What dbt should have made of the seeds; the same statements run in DuckDB over the same files.
MODELS = {
    "stg_orders": "SELECT id AS order_id, customer_id, ordered_on, amount::DECIMAL(10, 2) AS amount, status FROM orders",
    "customer_totals": """SELECT c.id AS customer_id, name, count(o.id) AS orders, sum(amount::DECIMAL(10, 2)) AS amount
        FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY ALL""",
    "orders_by_day": """SELECT ordered_on, count(*) AS orders, sum(amount::DECIMAL(10, 2)) AS amount
        FROM orders GROUP BY ordered_on""",
    "order_log": "SELECT id AS order_id, status FROM orders",
    "big_orders": "SELECT id AS order_id, amount::DECIMAL(10, 2) AS amount FROM orders WHERE amount > 5",
    "from_python": """SELECT id AS order_id, amount::DECIMAL(10, 2) AS amount FROM orders WHERE status = 'shipped'""",
}


class Rounds:
    """What dbt said in each round, and the seeds as they are at the end."""

    def __init__(self, server, folder):
        self.server, self.project, self.outcomes = server, folder / "project", []
        shutil.copytree(programs.HERE / "dbt_project", self.project)
        self._round(folder / "first.json")
        orders = self.project / "seeds/orders.csv"
        changed = orders.read_text().replace("13,3,2024-03-01,0.75,open", "13,3,2024-03-01,0.75,shipped")
        orders.write_text(changed + "15,2,2024-03-01,6.00,open\n16,1,2024-03-02,8.50,shipped\n")
        customers = self.project / "seeds/customers.csv"
        customers.write_text(customers.read_text().replace("2,Grace,", "2,Grace,Arlington"))
        self._round(folder / "second.json")

    def _round(self, output):
        environment = {
            "MERGANSER_PORT": str(self.server.port),
            "MERGANSER_USER": self.server.credentials["username"],
            "MERGANSER_PASSWORD": self.server.credentials["password"],
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        ended = programs.run(
            PYTHON, programs.HERE / "dbt_commands.py", self.project, output, *COMMANDS, environment=environment
        )
        assert output.exists(), ended.stdout + ended.stderr
        self.outcomes.append({outcome["command"]: outcome for outcome in json.loads(output.read_text())})


@pytest.fixture(scope="module")
def rounds(encrypted, tmp_path_factory):
    return Rounds(encrypted, tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="module")
def judge(rounds):
    with duckdb.connect() as connection:
        for seed in ("customers", "orders"):
            connection.execute(f"CREATE TABLE {seed} AS FROM read_csv('{rounds.project}/seeds/{seed}.csv')")
        yield connection


@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("command", COMMANDS)
def test_command_succeeds(rounds, number, command):
    outcome = rounds.outcomes[number][command]
    failed = {name: what for name, what in outcome["nodes"].items() if what[0] not in ("success", "pass")}
    assert (failed, outcome["exception"], outcome["success"]) == ({}, "", True)
    assert set(outcome["nodes"]) == NODES[command]


@pytest.mark.parametrize("model", MODELS)
def test_model_holds_what_duckdb_computes(rounds, judge, model):
    expected = judge.execute(f"FROM ({MODELS[model]}) ORDER BY ALL").fetchall()
    assert rounds.server.rows(f"FROM shop.{model} ORDER BY ALL") == expected


def test_snapshot_keeps_the_old_row(rounds):
    history = rounds.server.rows(
        """SELECT id, city, dbt_valid_to IS NULL AS current FROM shop.customers_over_time
           ORDER BY id, dbt_valid_from"""
    )
    assert history == [(1, "London", True), (2, None, False), (2, "Arlington", True), (3, "Rotterdam", True)]


def test_descriptions_are_comments(rounds):
    assert rounds.server.rows(
        """SELECT v.comment, c.comment FROM duckdb_views() v JOIN duckdb_columns() c ON c.table_name = v.view_name
           WHERE v.view_name = 'stg_orders' AND c.column_name = 'order_id'"""
    ) == [("Orders as they came; 'open' ones may change.", "The number on the invoice.")]


def test_contract_became_constraints(rounds):
    kinds = rounds.server.rows("SELECT constraint_type FROM duckdb_constraints() WHERE table_name = 'big_orders'")
    assert {("PRIMARY KEY",), ("CHECK",), ("NOT NULL",)} <= set(kinds)


def test_docs_describe_every_relation(rounds):
    catalog = json.loads((rounds.project / "target/catalog.json").read_text())
    assert catalog["errors"] is None
    described = {node.rpartition(".")[2]: content for node, content in catalog["nodes"].items()}
    assert set(described) == NODES["seed"] | NODES["run"] | NODES["snapshot"]
    columns = {name: column["type"] for name, column in described["customer_totals"]["columns"].items()}
    assert columns == {"customer_id": "BIGINT", "name": "VARCHAR", "orders": "BIGINT", "amount": "DECIMAL(38,2)"}


def test_nothing_temporary_is_left(rounds):
    tables = rounds.server.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'")
    assert {name for (name,) in tables} == NODES["seed"] | NODES["run"] | NODES["snapshot"]
