"""Addresses and names of the virtual machine, and the tables that say which file goes where."""

from ..microk8s import layout

# The host in QEMU's user network, which passes everything on.
GATEWAY = "10.0.2.2"
# The web Service's backends: addresses that the machine itself has, within the pods' network but of no node's part of it.
BACKENDS = ("10.1.7.2", "10.1.7.3")
BACKEND_PORT = 8080
# What the snap says that it is. kube_proxy refuses nftables before 1.31, and the stand-in behaves as the proxy of that
# release on; the components that run are of the release that the API names.
RELEASE = "v1.32.3"

# Files of lab/node/vm that lie below the snap's folder. They take the place of the lab's own.
SNAP_FILES = ("kube-proxy", "kubelet", "run-kubelite-with-args")
STAND_INS = "usr/local/lib/kubekeel-lab/vm"
# What the stand-in for the kubelet says that it is: the control plane's own release.
VERSION_FILE = "etc/kubekeel-lab/kubelet-version"
DAEMONS = tuple(daemon for daemon in layout.DAEMONS if daemon.name in ("daemon-apiserver-proxy", "daemon-kubelite"))
NETWORK_UNIT = "etc/systemd/system/kubekeel-lab-network.service"
NETWORK = "etc/kubekeel-lab/network"
WEB_UNIT = "etc/systemd/system/kubekeel-lab-web@.service"
PROTOCOLS = b"ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n"
SSH_SETTINGS = "etc/systemd/system/ssh.service.d/kubekeel-lab.conf"
# Containers need them, or pods do.
UNUSED = frozenset(
    {
        "etc/kubekeel-lab/kubelet-sysctls",
        "etc/kubekeel-lab/routes",
        "etc/systemd/system/kubekeel-lab-pod-image.service",
        "etc/systemd/system/multi-user.target.wants/kubekeel-lab-pod-image.service",
        "usr/local/lib/kubekeel-lab/init",
    }
)
# Of no use in a machine without terminals, encrypted disks and pods; under QEMU's translator they are half of a boot.
MASKED = (
    *(
        f"system/{unit}"
        for unit in (
            "dev-hugepages.mount",
            "dev-mqueue.mount",
            "dpkg-db-backup.timer",
            "e2scrub_all.timer",
            "e2scrub_reap.service",
            "fstrim.timer",
            "kmod-static-nodes.service",
            "modprobe@configfs.service",
            "modprobe@dm_mod.service",
            "modprobe@drm.service",
            "modprobe@efi_pstore.service",
            "modprobe@fuse.service",
            "modprobe@loop.service",
            "proc-sys-fs-binfmt_misc.automount",
            "sys-fs-fuse-connections.mount",
            "sys-kernel-config.mount",
            "sys-kernel-debug.mount",
            "sys-kernel-tracing.mount",
            "systemd-binfmt.service",
            "systemd-pstore.service",
            "systemd-random-seed.service",
            "systemd-remount-fs.service",
            "systemd-sysusers.service",
            "systemd-tmpfiles-setup-dev.service",
            "systemd-update-utmp-runlevel.service",
            "systemd-update-utmp.service",
        )
    ),
    *(
        f"system-generators/systemd-{generator}-generator"
        for generator in (
            "cryptsetup",
            "debug",
            "fstab",
            "getty",
            "gpt-auto",
            "hibernate-resume",
            "integritysetup",
            "rc-local",
            "run",
            "system-update",
            "veritysetup",
        )
    ),
)
