"""A raw disk on a virtio-mmio device, as libvirt sees it."""

import os

from guest import PROMPT, check, filled
from host import PATIENCE, Case, Domain

SIZE = 8 << 20


class Disk(Case):
    def domain(self):
        image = f"{self.host.folder}/disk.raw"
        with open(image, "wb") as file:
            file.write(b"x" * 4096)
            file.truncate(SIZE)
        disk = (
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>"
            "<target dev='vda' bus='virtio'/><address type='virtio-mmio'/></disk>"
        )
        return Domain(self.host, devices=disk), image

    def test_a_raw_disk(self):
        domain, image = self.domain()
        with domain:
            domain.virsh("start")
            domain.console(PROMPT, PATIENCE).close()
            self.assertEqual(domain.virsh("domblklist").split(), ["vda", image])
            figures = domain.virsh("domstats", "--block")
            self.assertIn(f"block.0.path={image}", figures)
            self.assertIn(f"block.0.capacity={SIZE}", figures)
            self.assertIn(f"block.0.physical={os.stat(image).st_blocks * 512}", figures)
            self.assertEqual(domain.virsh("domblkerror"), "No errors found")
            self.says(domain, "suspend", "paused (user)", "Suspended Paused")
            self.says(domain, "resume", "running (unpaused)", "Resumed Unpaused")

    def test_a_machine_with_a_disk_is_saved(self):
        domain, _ = self.domain()
        with domain:
            filled(domain)
            domain.virsh("managedsave")
            self.says(domain, "start", "running (restored)", "Started Restored")
            check(domain)
            self.assertIn(f"block.0.capacity={SIZE}", domain.virsh("domstats", "--block"))
