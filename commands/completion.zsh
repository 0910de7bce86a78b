#compdef etcdops
# zsh completion for etcdops; it needs no other package.
# Load it with: source <(etcdops completion zsh)
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_etcdops() {
	local -a found
	found=(${(f)"$(${~words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( $#found )); then
		compadd -- $found
	else
		_files
	fi
}
compdef _etcdops etcdops
