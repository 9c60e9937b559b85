#!/bin/sh
# The dead man's switch of a host: undoes there what the harness did, when the harness stays silent.
#
#   sh switch.sh DIR SILENCE_S
#
# While the harness is well, the text of DIR/beat changes at least once a second. When it has not for SILENCE_S
# looks, a second each, every line of DIR/undo is worked off, and what
# was done is noted in DIR/fired. Ends when DIR/beat is gone. Needs a POSIX shell and nothing of the harness: the
# interpreter, the agent and the connection may all be dead.
#
# Lines of DIR/undo:
#   nft TABLE                 the table `inet TABLE`
#   iptables PROGRAM CHAIN    the chain, and the rule of INPUT that leads to it
#   qdisc DEVICE              the queueing discipline at the root of DEVICE
#   cont PID START            the process with that start time (field 22 of /proc/PID/stat) goes on
#   clock BASE                the clock of this host is BASE + the time since boot, in seconds
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:$PATH
dir=$1
silence=$2

undo() {
  while read -r what one two; do
    case $what in
      nft) nft delete table inet "$one" ;;
      iptables)
        "$one" -w -D INPUT -j "$two"
        "$one" -w -F "$two"
        "$one" -w -X "$two"
        ;;
      qdisc) tc qdisc del dev "$one" root ;;
      cont)
        stat=$(cat "/proc/$one/stat" 2>/dev/null) || continue
        start=$(printf '%s' "${stat##*) }" | cut -d' ' -f20)
        [ "$start" = "$two" ] && kill -CONT "$one"
        ;;
      clock) date -s "@$(cut -d' ' -f1 /proc/uptime | awk -v b="$one" '{printf "%.3f", b + $1}')" >/dev/null ;;
    esac
  done
}

last=
quiet=0
while [ -e "$dir/beat" ]; do
  sleep 1
  now=$(cat "$dir/beat" 2>/dev/null)
  if [ "$now" != "$last" ]; then
    last=$now
    quiet=0
    continue
  fi
  quiet=$((quiet + 1))
  [ "$quiet" -eq "$silence" ] || continue
  [ -s "$dir/undo" ] || continue
  date -u '+%Y-%m-%dT%H:%M:%SZ the switch: the harness was silent' >>"$dir/fired"
  undo <"$dir/undo" >>"$dir/fired" 2>&1
done
