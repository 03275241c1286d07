# Common code of the scripts in this directory; they source it.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CGO_ENABLED=0
# The same flags as in make build, so that all targets share its compiled packages (SQLite takes a minute).
export GOFLAGS="-trimpath -buildvcs=false${GOFLAGS:+ $GOFLAGS}"

# need COMMAND PACKAGE...: make sure that a command is installed; if not, install the
# Debian packages. If that fails, print their names and end the script.
need() {
	local command=$1
	shift
	command -v "$command" >/dev/null 2>&1 && return
	if [ "$command" = go ]; then
		echo "Go 1.26 or newer is needed and there is no command 'go': https://go.dev/dl/" >&2
		exit 1
	fi
	install_packages "$command" "$@"
	command -v "$command" >/dev/null 2>&1 && return
	echo "$command is still missing after installing the Debian package $*" >&2
	exit 1
}

# install_packages WHAT PACKAGE...: install Debian packages, saying what for.
install_packages() {
	local what=$1
	shift
	local sudo=()
	if [ "$(id -u)" != 0 ]; then sudo=(sudo -n); fi
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "$what is needed: on Debian it is in the package $*; install its like on this system" >&2
		exit 1
	fi
	if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
		echo "$what is needed: run 'sudo apt-get install $*' (this script is neither root nor may it use sudo)" >&2
		exit 1
	fi
	echo "-- installing the Debian package $* for $what" >&2
	if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2; then
		"${sudo[@]}" apt-get update -q >&2 || true
		if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2; then
			echo "$what is needed, and the Debian package $* could not be installed (see above)" >&2
			exit 1
		fi
	fi
}

# postgres_bin: the folder of PostgreSQL's programs, the newest if there are several.
postgres_bin() {
	local newest
	newest=$(find /usr/lib/postgresql -maxdepth 3 -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
	if [ -n "$newest" ]; then
		dirname "$newest"
	elif command -v initdb >/dev/null 2>&1; then
		dirname "$(readlink -f "$(command -v initdb)")"
	fi
}

need_postgres() {
	if [ -n "$(postgres_bin)" ]; then return; fi
	install_packages PostgreSQL postgresql
	if [ -z "$(postgres_bin)" ]; then
		echo "PostgreSQL is still missing after installing the Debian package postgresql" >&2
		exit 1
	fi
}

# need_debian_clients: matrix-nio for Debian's own Python, and WeeChat with weechat-matrix, which test/peers drives.
need_debian_clients() {
	if [ -d /usr/lib/python3/dist-packages/nio ] && [ -e /usr/share/weechat/python/matrix.py ] && command -v weechat-headless >/dev/null 2>&1; then return; fi
	install_packages "the clients matrix-nio and WeeChat" python3-matrix-nio weechat-headless weechat-plugins weechat-python weechat-matrix
}
