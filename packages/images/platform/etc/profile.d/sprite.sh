# Read by the login shells of the sprite.
case ":$PATH:" in
*:/.sprite/bin:*) ;;
*) PATH=/.sprite/bin:$PATH ;;
esac
export PATH
