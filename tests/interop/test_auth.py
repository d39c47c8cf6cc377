"""Log-ins, encryption and client certificates, with the clients that people have."""

import subprocess

import adbc_driver_manager
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import trustme
from adbc_driver_flightsql import DatabaseOptions

from harness import BINARY, ENVIRONMENT, refusal, refused

SELECT = flight.Ticket(b"SELECT 42 AS answer")
# Of one of these two, base64 ends in padding.
PASSWORDS = {"ana": "s3cret", "björn": "pä:ss wörd"}


@pytest.fixture(scope="module")
def users():
    """The [[user]] tables of a configuration."""
    tables = []
    for name, password in PASSWORDS.items():
        made = subprocess.run(
            [BINARY, "hash-password"], input=password + "\n", env=ENVIRONMENT, capture_output=True, text=True, check=True
        )  # fmt: skip
        tables.append(f'[[user]]\nname = "{name}"\npassword_hash = "{made.stdout.strip()}"\n')
    return "".join(tables)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def guarded(start, database, users, tmp_path):
    """Starts a server that has users."""

    def guarded(*options, **client):
        file = tmp_path / "merganser.toml"
        file.write_text(users)
        return start(database, "--config", file, *options, **client)

    return guarded


@pytest.fixture
def certificates(authority, tmp_path):
    """The files of a server, as options."""
    signed = authority.issue_cert("127.0.0.1", "localhost")
    signed.private_key_pem.write_to_path(tmp_path / "key.pem")
    signed.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return ["--tls-cert", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem"]


def adbc_value(server, **options):
    with server.adbc(autocommit=True, db_kwargs=options) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 42 AS answer")
        return cursor.fetchone()[0]


def flight_value(client, options=None):
    return client.do_get(SELECT, options).read_all()["answer"][0].as_py()


def bearer(pair):
    return flight.FlightCallOptions(headers=[pair])


class TestPasswords:
    @pytest.mark.parametrize("name", PASSWORDS)
    def test_adbc_logs_in(self, guarded, name):
        assert adbc_value(guarded(), username=name, password=PASSWORDS[name]) == 42

    @pytest.mark.parametrize("name", PASSWORDS)
    def test_pyarrow_logs_in_for_a_token(self, guarded, name):
        server = guarded()
        token = server.client.authenticate_basic_token(name, PASSWORDS[name])
        assert flight_value(server.client, bearer(token)) == 42

    def test_pyarrow_writes_with_its_token(self, guarded):
        server = guarded()
        options = bearer(server.client.authenticate_basic_token("ana", PASSWORDS["ana"]))
        table = pa.table({"id": [1, 2]})
        writer, answers = server.client.do_put(flight.FlightDescriptor.for_path("t"), table.schema, options)
        writer.write_table(table)
        writer.done_writing()
        assert answers.read() is not None
        writer.close()
        rows = server.client.do_get(flight.Ticket(b"SELECT count(*) AS n FROM t"), options).read_all()
        assert rows["n"].to_pylist() == [2]

    def test_older_handshake_of_pyarrow(self, guarded):
        class Handler(flight.ClientAuthHandler):
            def authenticate(self, outgoing, incoming):
                outgoing.write(flight.BasicAuth("ana", PASSWORDS["ana"]).serialize())
                self.token = incoming.read()

            def get_token(self):
                return self.token

        server = guarded()
        server.client.authenticate(Handler())
        assert flight_value(server.client) == 42

    def test_wrong_password_and_unknown_user_look_the_same(self, guarded):
        server = guarded()
        texts = set()
        for name, password in [("ana", "wrong"), ("nobody", PASSWORDS["ana"])]:
            status = refused(
                server.client.authenticate_basic_token, name, password, codes="UNAUTHENTICATED", slug="UNAUTHENTICATED"
            )
            texts.add(status.text)
            with pytest.raises(adbc_driver_manager.ProgrammingError) as caught:
                adbc_value(server, username=name, password=password)
            texts.add(refusal(caught.value, codes="UNAUTHENTICATED", slug="UNAUTHENTICATED").text)
        assert texts == {"wrong user or password"}
        log = server.log.read_text()
        assert 'user="nobody"' in log and "127.0.0.1" in log
        assert PASSWORDS["ana"] not in log and "wrong\"" not in log

    def test_nothing_is_answered_without_credentials(self, guarded):
        server = guarded()
        client, path = server.client, flight.FlightDescriptor.for_path("t")
        table = pa.table({"id": [1]})

        def put():
            writer, _ = client.do_put(path, table.schema)
            writer.write_table(table)
            writer.close()

        def exchange():
            writer, reader = client.do_exchange(path)
            writer.done_writing()
            reader.read_chunk()

        for call in [
            lambda: list(client.list_flights()),
            lambda: list(client.list_actions()),
            lambda: list(client.do_action(("query", b"SELECT 1"))),
            lambda: client.get_flight_info(path),
            lambda: flight_value(client),
            put,
            exchange,
        ]:
            status = refused(call, codes="UNAUTHENTICATED", slug="UNAUTHENTICATED")
            assert "log in" in status.text
        # pyarrow makes an OSError of this one.
        with pytest.raises(OSError, match="UNAUTHENTICATED: log in"):
            client.get_schema(path)
        assert adbc_value(server, username="ana", password=PASSWORDS["ana"]) == 42

    def test_unknown_token(self, guarded):
        server = guarded()
        options = bearer((b"authorization", b"Bearer 0123456789abcdef"))
        refused(flight_value, server.client, options, codes="UNAUTHENTICATED", slug="UNAUTHENTICATED")

    def test_without_users_everybody_is_welcome(self, server):
        assert adbc_value(server, username="whoever", password="whatever") == 42
        token = server.client.authenticate_basic_token("whoever", "whatever")
        assert flight_value(server.client, bearer(token)) == 42


class TestEncryption:
    def test_adbc_and_pyarrow_over_tls(self, guarded, certificates, authority):
        pem = authority.cert_pem.bytes()
        server = guarded(*certificates, connect={"tls_root_certs": pem})
        assert server.uri.startswith("grpc+tls://")
        token = server.client.authenticate_basic_token("ana", PASSWORDS["ana"])
        assert flight_value(server.client, bearer(token)) == 42
        options = {DatabaseOptions.TLS_ROOT_CERTS.value: pem.decode()}
        assert adbc_value(server, username="ana", password=PASSWORDS["ana"], **options) == 42

    def test_who_does_not_trust_the_server_does_not_talk_to_it(self, start, database, certificates):
        stranger = trustme.CA().cert_pem.bytes()
        server = start(database, *certificates, connect={"tls_root_certs": stranger})
        with pytest.raises(flight.FlightUnavailableError):
            flight_value(server.client)
        with pytest.raises(adbc_driver_manager.Error):
            adbc_value(server, **{DatabaseOptions.TLS_ROOT_CERTS.value: stranger.decode()})

    def test_client_certificate_is_a_log_in(self, start, database, certificates, authority, tmp_path):
        signed = authority.issue_cert("ana@example.org", common_name="ana")
        chain, key = signed.cert_chain_pems[0].bytes(), signed.private_key_pem.bytes()
        pem = authority.cert_pem.bytes()
        certificates += ["--tls-client-ca", tmp_path / "authority.pem"]
        client = {"tls_root_certs": pem, "cert_chain": chain, "private_key": key}
        server = start(database, *certificates, connect=client)
        assert flight_value(server.client) == 42
        trust = {DatabaseOptions.TLS_ROOT_CERTS.value: pem.decode()}
        shown = {
            DatabaseOptions.MTLS_CERT_CHAIN.value: chain.decode(),
            DatabaseOptions.MTLS_PRIVATE_KEY.value: key.decode(),
        }
        assert adbc_value(server, **trust, **shown) == 42
        with pytest.raises(adbc_driver_manager.Error):
            adbc_value(server, **trust)
        with flight.connect(server.uri, tls_root_certs=pem) as nameless:
            with pytest.raises(flight.FlightUnavailableError):
                flight_value(nameless)

    def test_listening_beyond_loopback_is_allowed_with_encryption(self, certificates, database):
        process = subprocess.Popen(
            [BINARY, "--database", database, "--listen", "0.0.0.0:0", *certificates],
            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout.readline().startswith("listening on grpc+tls://0.0.0.0:")
        finally:
            process.terminate()
            _, log = process.communicate(timeout=60)
        assert process.returncode == 0 and "there are no users" in log


class TestHealth:
    def test_health_needs_no_log_in(self, guarded):
        with guarded().channel() as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert check(b"") == b"\x08\x01"

    def test_reflection_needs_one(self, guarded):
        with guarded().channel() as channel:
            ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
            with pytest.raises(grpc.RpcError) as caught:
                list(ask(iter([b"\x3a\x00"])))
            assert refusal(caught.value).slug == "UNAUTHENTICATED"
