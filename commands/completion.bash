# bash completion for etcdops; it needs no other package.
# Load it with: source <(etcdops completion bash)
_etcdops() {
	local IFS=$'\n' program=${COMP_WORDS[0]/#\~/$HOME}
	COMPREPLY=($("$program" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _etcdops etcdops
