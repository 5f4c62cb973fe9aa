/**
 * Completion scripts. All of them ask `hob __complete -- WORDS`, the last word being the one under the cursor, and get
 * lines `candidate TAB description`, then one line `:files` or `:nofiles`: whether file names fit as well.
 */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/**
 * Bash breaks words also at characters of COMP_WORDBREAKS, as in `web@v1` and `web:/srv`, and puts what is completed in
 * the place of the last piece only: the pieces are joined, and their beginning is taken off each candidate. The last
 * piece has the `@` that it begins with, as in names of hosts, but not another character.
 */
const BASH = `# bash completion for hob. Load it with: source <(hob completion bash)
_hob_complete() {
  local rest="\${COMP_LINE:0:COMP_POINT}" piece blanks line candidate character begin prefix= i
  local -a words=()
  COMPREPLY=()
  rest="\${rest#*"\${COMP_WORDS[0]}"}"
  for ((i = 1; i <= COMP_CWORD; i++)); do
    blanks="\${rest%%[![:space:]]*}"
    rest="\${rest#"$blanks"}"
    piece="\${COMP_WORDS[i]}"
    [[ $rest == "$piece"* ]] || piece="$rest"
    rest="\${rest#"$piece"}"
    if [[ -n $blanks || \${#words[@]} -eq 0 ]]; then words+=("$piece"); else words[-1]+="$piece"; fi
  done
  for character in @ : =; do
    [[ $COMP_WORDBREAKS == *"$character"* && \${words[-1]} == *"$character"* ]] || continue
    begin="\${words[-1]%"$character"*}"
    [[ $character == @ ]] || begin+="$character"
    ((\${#begin} > \${#prefix})) && prefix="$begin"
  done
  while IFS= read -r line; do
    case "$line" in
      :files) compopt -o default ;;
      :nofiles) ;;
      *)
        candidate="\${line%%$'\\t'*}"
        [[ $candidate == *[:@/=] ]] && compopt -o nospace
        COMPREPLY+=("\${candidate#"$prefix"}")
        ;;
    esac
  done < <("\${COMP_WORDS[0]}" __complete -- "\${words[@]}" 2>/dev/null)
}
complete -F _hob_complete hob
`;

const ZSH = `#compdef hob
# zsh completion for hob. Load it with: source <(hob completion zsh)
_hob() {
  local line files=0
  local -a candidates unfinished
  while IFS= read -r line; do
    case "$line" in
      :files) files=1 ;;
      :nofiles) ;;
      *[:@/=]$'\\t'*) unfinished+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
      *) candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
    esac
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe hob candidates
  (( \${#unfinished} )) && _describe hob unfinished -S ''
  (( files )) && _files
}
if [ "\${funcstack[1]}" = _hob ]; then _hob "$@"; else compdef _hob hob; fi
`;

const FISH = `# fish completion for hob. Load it with: hob completion fish | source
function __hob_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (command $words[1] __complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :nofiles
            case '*'
                echo $line
        end
    end
end
complete -c hob -f -a '(__hob_complete)'
`;

export const COMPLETION_SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
