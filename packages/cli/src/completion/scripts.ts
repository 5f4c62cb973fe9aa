/**
 * Completion scripts. All of them ask `hob __complete -- WORDS`, the last word being the one under the cursor, and get
 * lines `candidate TAB description`, then one line `:files` or `:nofiles`: whether file names fit as well.
 */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

const BASH = `# bash completion for hob. Load it with: source <(hob completion bash)
_hob_complete() {
  local line candidate
  local -a words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  COMPREPLY=()
  while IFS= read -r line; do
    case "$line" in
      :files) compopt -o default ;;
      :nofiles) ;;
      *)
        candidate="\${line%%$'\\t'*}"
        [[ $candidate == *: ]] && compopt -o nospace
        COMPREPLY+=("$candidate")
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
  local -a candidates
  while IFS= read -r line; do
    case "$line" in
      :files) files=1 ;;
      :nofiles) ;;
      *) candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
    esac
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe hob candidates
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
