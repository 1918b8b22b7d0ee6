"""Migrations by TLS between two processes, with certificates that openssl has made."""

import contextlib
import pathlib
import socket
import subprocess
import tempfile

from test_migration import Mover, Moves
from vm import PATIENCE, PROGRAM


class Authority:
    """Who vouches for certificates, in a folder of its own."""

    def __init__(self, folder, name="authority"):
        self._folder = pathlib.Path(folder) / name
        self._folder.mkdir()
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN={name}", "-keyout", "key.pem", "-out", "ca-cert.pem",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def _openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self._folder, check=True, capture_output=True, timeout=PATIENCE)

    def vouch(self, side, host="localhost", days=30):
        """A folder for `tls-creds-x509` of a side, with its certificate for a host."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self._folder))
        use = {"client": "clientAuth", "server": "serverAuth"}[side]
        (self._folder / "extensions").write_text(
            f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage={use}\nsubjectAltName=DNS:{host},IP:127.0.0.1\n"
        )
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/C=GB/CN={side}",
            "-keyout", str(folder / f"{side}-key.pem"), "-out", "request.pem",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", "request.pem", "-CA", "ca-cert.pem", "-CAkey", "key.pem", "-CAcreateserial",
            "-days", str(days), "-extfile", "extensions", "-out", str(folder / f"{side}-cert.pem"),
        )  # fmt: skip
        (folder / "ca-cert.pem").write_bytes((self._folder / "ca-cert.pem").read_bytes())
        return folder


class Tls(Moves):
    @contextlib.asynccontextmanager
    async def sides(self):
        """A machine at its prompt with its certificate, one that waits with its own, and who vouches for both."""
        with tempfile.TemporaryDirectory(prefix="dormouse-tls-") as folder:
            authority = Authority(folder)
            server = f"tls-creds-x509,id=tls0,dir={authority.vouch('server')},endpoint=server"
            async with Mover() as here, Mover("-incoming", "defer", "-object", server) as there:
                await here.up()
                await self.equip(here, authority.vouch("client"))
                await there.qmp("migrate-set-parameters", tls_creds="tls0")
                yield here, there, authority

    async def equip(self, vm, folder, name="tls0"):
        arguments = {"qom-type": "tls-creds-x509", "id": name, "dir": str(folder), "endpoint": "client"}
        await vm.qmp("object-add", **arguments)
        await vm.qmp("migrate-set-parameters", tls_creds=name)

    async def listen(self, there):
        """Has it wait for a machine on some port; gives the address."""
        await there.qmp("migrate-incoming", uri="tcp:127.0.0.1:0", exit_on_error=False)
        address = (await there.qmp("query-migrate"))["socket-address"][0]
        return f"tcp:{address['host']}:{address['port']}"

    async def fails(self, here, place, words):
        await here.qmp("migrate", uri=place)
        self.assertEqual((await here.told("completed", "failed"))[-1], "failed")
        self.assertEqual((await here.qmp("query-migrate"))["error-desc"], words)
        self.assertEqual(await here.status(), "running")

    async def goes(self, here, there, place):
        here.console.type("fill 16\nchurn 8 1\n")
        await here.console.expect("churning")
        await here.qmp("migrate", uri=place)
        await self.arrived(here, there)
        there.console.type("\ncheck\n")
        await there.console.expect(r"churned \d+ pages, 0 wrong, clocks went back 0 times")
        await there.console.expect("checked 4096 pages, 0 wrong")

    async def test_a_guest_that_works_goes_on_over_there(self):
        async with self.sides() as (here, there, _):
            await self.goes(here, there, await self.listen(there))

    async def test_who_is_not_known_is_turned_away_and_who_is_may_come_after(self):
        async with self.sides() as (here, there, authority):
            place = await self.listen(there)
            with tempfile.TemporaryDirectory(prefix="dormouse-tls-") as folder:
                stranger = Authority(folder, "stranger").vouch("client")
                await self.equip(here, stranger, "other")
                await self.fails(here, place, "The certificate hasn't got a known issuer")
                await self.equip(here, self.only_trust(authority, folder), "none")
                wants = "it wants a certificate, and our credentials have none"
                await self.fails(here, place, f"TLS: the other side refuses: {wants}")
            await here.qmp("migrate-set-parameters", tls_creds="")
            await self.fails(here, place, "the other side speaks TLS, and 'tls-creds' is not set here")
            await here.qmp("migrate-set-parameters", tls_creds="tls0", tls_hostname="elsewhere")
            await self.fails(here, place, "Certificate does not match the hostname elsewhere")
            await here.qmp("migrate-set-parameters", tls_hostname="localhost")
            await self.goes(here, there, place)

    def only_trust(self, authority, folder):
        """Credentials of a client without a certificate."""
        alone = pathlib.Path(tempfile.mkdtemp(dir=folder))
        known = authority.vouch("client") / "ca-cert.pem"
        (alone / "ca-cert.pem").write_bytes(known.read_bytes())
        return alone

    async def test_a_cancel_ends_a_handshake_that_is_not_answered(self):
        async with self.sides() as (here, _, _):
            with socket.create_server(("127.0.0.1", 0)) as silent:
                await here.qmp("migrate", uri=f"tcp:127.0.0.1:{silent.getsockname()[1]}")
                connection = silent.accept()[0]
                await here.qmp("migrate_cancel")
                self.assertEqual((await here.told("cancelled", "failed"))[-1], "cancelled")
                connection.close()
            self.assertEqual(await here.status(), "running")

    async def test_credentials_that_cannot_be_read_end_the_start_with_the_reason(self):
        done = subprocess.run(
            [PROGRAM, "-machine", "none", "-display", "none", "-object", "tls-creds-x509,id=t,dir=/nonexistent"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        words = "Unable to access credentials /nonexistent/ca-cert.pem: No such file or directory"
        self.assertEqual((done.returncode, done.stderr.strip().endswith(words)), (1, True), done)
