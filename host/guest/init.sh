#!/bin/sh
# The guest's first and only process: loads the stock drivers, then does what the host says over the serial console.
#
# The guest says "@@ ready", and does what commands.sh tells. Kernel parameter ringnic.shell: a person instead, with the
# address of ringnic.address=ADDRESS/LENGTH or one by DHCP.

/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TERM=vt100
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
# tcpdump gives up being root for a user of its own name.
printf '%s\n' root::0:0::/:/bin/sh tcpdump:x:100:100::/:/bin/false >/etc/passwd
printf '%s\n' root:x:0: tcpdump:x:100: >/etc/group
ip link set lo up

for module in /modules/*.ko; do
	[ -e "$module" ] && insmod "$module"
done

if grep -qw ringnic.shell /proc/cmdline; then
	ip link set eth0 up
	address=$(sed -n 's/.*ringnic.address=\([^ ]*\).*/\1/p' /proc/cmdline)
	if [ -n "$address" ]; then
		ip addr add "$address" dev eth0
	else
		udhcpc -i eth0 -s /etc/udhcpc.sh -f -q -n
	fi
	echo "This guest's eth0 is RingNIC. Leave with: exit (or Ctrl-A X)"
	setsid cttyhack sh
	poweroff -f
fi

exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -icanon -opost
echo
echo "@@ ready"
exec sh /etc/commands.sh
