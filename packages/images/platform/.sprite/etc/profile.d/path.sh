# The platform's programs come first.
case ":$PATH:" in
*:/.sprite/bin:*) ;;
*) PATH=/.sprite/bin:$PATH ;;
esac
export PATH
