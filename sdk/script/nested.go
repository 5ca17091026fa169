package script

// Nested reports whether JSON has objects and lists in one another more than so many levels deep. It looks at each byte once, and makes nothing
// of what is no JSON.
func Nested[T string | []byte](text T, levels int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > levels {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
