#!/bin/sh
# Runs what the host types, a line each: "NUMBER COMMAND". Output goes to the console as it comes; then "@@ NUMBER STATUS" says
# that the command has ended.
#
# Another process reads: the shell's own `read` forgets what it has of a line when a background command ends meanwhile.
while line=$(head -n 1); do
	number=${line%% *} command=${line#* }
	eval "$command" </dev/null
	printf '\n@@ %s %s\n' "$number" "$?"
done
