#!/bin/bash
# Makes a folder for the tests of aarch64: Debian 13 for arm64 with Mesa's delegate, LiteRT for it, and a `python` that
# runs all that under qemu-user. Needs root for apt-get: qemu-user-static, debootstrap, gcc-aarch64-linux-gnu.
#   tests/engines/make_aarch64.sh DIR && EDGE_ISP_AARCH64=DIR pytest tests/engines/test_aarch64.py
set -euo pipefail
package=$(cd "$(dirname "$0")/../.." && pwd)/edge_isp
mkdir -p "$1/package" && cd "$1"
apt-get install -y --no-install-recommends qemu-user-static debootstrap gcc-aarch64-linux-gnu libc6-dev-arm64-cross
debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,mesa-teflon-delegate trixie root
for deb in root/var/cache/apt/archives/*.deb; do dpkg -x "$deb" root; done
python3 -m pip install --target site --only-binary=:all: --python-version 3.13 --platform manylinux_2_27_aarch64 \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 ai-edge-litert numpy
ln -sfn "$package" package/edge_isp
mkdir -p root/proc # runtimes read it to know the processor, and crash on an x86's
cat > root/proc/cpuinfo <<'EOF'
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
EOF
cat > python <<'EOF'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$here/site:$here/package QEMU_CPU=cortex-a76 QEMU_LD_PREFIX=$here/root PYTHONHOME=$here/root/usr \
  exec qemu-aarch64-static "$here/root/usr/bin/python3.13" "$@"
EOF
chmod +x python
