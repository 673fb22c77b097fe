#!/bin/sh
# What busybox udhcpc calls with a lease in its environment.

case "$1" in
deconfig)
	ip addr flush dev "$interface"
	ip link set "$interface" up
	;;
bound|renew)
	ip addr add "$ip/$mask" dev "$interface"
	for hop in $router; do
		ip route add default via "$hop" dev "$interface"
	done
	: >/etc/resolv.conf
	for server in $dns; do
		echo "nameserver $server" >>/etc/resolv.conf
	done
	echo "lease $ip/$mask router $router"
	;;
esac
