"""Machines that are saved to files, and started from them again."""

import os

from guest import asleep, check, filled, wake
from host import Case, Domain


class Save(Case):
    def save(self, domain, *words):
        """Saves the domain; gives the file."""
        file = f"{self.host.folder}/{domain.name}.save"
        domain.virsh("save", file, *words)
        self.assertEqual(domain.state(), "shut off (saved)")
        domain.event("Stopped Saved")
        return file

    def restore(self, domain, file, *words):
        self.host.virsh("restore", file, *words)
        domain.event("Started Restored")

    def test_a_running_machine(self):
        with Domain(self.host) as domain:
            filled(domain)
            self.restore(domain, self.save(domain))
            self.assertEqual(domain.state(), "running (restored)")
            check(domain)

    def test_a_running_machine_is_restored_paused(self):
        with Domain(self.host) as domain:
            filled(domain)
            self.restore(domain, self.save(domain), "--paused")
            self.assertEqual(domain.state(), "paused (migrating)")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
            check(domain)

    def test_a_stopped_machine(self):
        with Domain(self.host) as domain:
            filled(domain)
            self.says(domain, "suspend", "paused (user)", "Suspended Paused")
            self.restore(domain, self.save(domain))
            self.assertEqual(domain.state(), "paused (migrating)")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")
            check(domain)

    def test_a_sleeping_machine(self):
        with Domain(self.host) as domain:
            asleep(domain)
            file = self.save(domain)
            # It holds what did not run when it was saved, and `resume` lets it go on: asleep.
            self.restore(domain, file)
            self.assertEqual(domain.state(), "paused (migrating)")
            domain.virsh("resume")
            domain.wait_for("pmsuspended (unknown)")
            wake(self, domain)

    def test_a_sleeping_machine_is_restored_running(self):
        with Domain(self.host) as domain:
            asleep(domain)
            self.restore(domain, self.save(domain), "--running")
            domain.wait_for("pmsuspended (unknown)")
            wake(self, domain)

    def test_managedsave(self):
        with Domain(self.host) as domain:
            filled(domain)
            domain.virsh("managedsave")
            self.assertEqual(domain.state(), "shut off (saved)")
            self.says(domain, "start", "running (restored)", "Started Restored")
            check(domain)
            domain.virsh("managedsave", "--paused")
            self.says(domain, "start", "paused (migrating)", "Started Restored")

    def test_managedsave_is_given_up(self):
        with Domain(self.host) as domain:
            filled(domain)
            domain.virsh("managedsave")
            domain.virsh("managedsave-remove")
            self.says(domain, "start", "running (booted)", "Started Booted")

    def test_a_machine_is_saved_in_each_of_libvirts_formats(self):
        with Domain(self.host) as domain:
            filled(domain)
            for image in ("raw", "gzip", "zstd", "sparse"):
                with self.subTest(image):
                    self.restore(domain, self.save(domain, "--image-format", image))
                    check(domain)

    def test_a_file_that_was_cut_is_refused(self):
        with Domain(self.host) as domain:
            filled(domain)
            file = self.save(domain)
            os.truncate(file, os.path.getsize(file) - 100_000)
            self.assertIn("the saved state ends", self.host.refused("restore", file))
            self.assertEqual(domain.state(), "shut off (failed)")

    def test_a_save_that_is_refused_changes_nothing(self):
        with Domain(self.host) as domain:
            filled(domain).close()
            file = f"{self.host.folder}/{domain.name}.save"
            # Somebody else sends the machine where nobody reads.
            domain.virsh("qemu-monitor-command", "--hmp", "migrate -d exec:sleep 1000")
            said = self.host.refused("save", domain.name, file)
            self.assertIn("There's a migration process in progress", said)
            domain.virsh("qemu-monitor-command", "--hmp", "migrate_cancel")
            self.assertEqual(domain.state(), "running (save canceled)")
            check(domain)

    def test_abort(self):
        much = 64  # MiB for gzip, of which the half takes a second
        with Domain(self.host) as domain:
            filled(domain, much).close()
            file = f"{self.host.folder}/{domain.name}.save"
            with self.host.begin("save", "--image-format", "gzip", domain.name, file) as save:
                self.host.events.expect(f"'migration-iteration' for domain '{domain.name}': iteration: '1'")
                domain.virsh("domjobabort")
                status, said = save.ended()
            self.assertNotEqual(status, 0)
            self.assertIn("canceled by client", said)
            self.assertEqual(domain.state().split()[0], "running")
            self.assertFalse(os.path.exists(file))
            check(domain, much)
