package id

// MaxIdentifierLength is the longest namespaced or opaque identifier, in characters.
//
// Spec: appendices#common-namespaced-identifier-grammar, appendices#opaque-identifiers
const MaxIdentifierLength = 255

// IsNamespaced says whether a text keeps to the Common Namespaced Identifier Grammar: 1 to 255 characters of a-z, 0-9, `-`,
// `_` and `.`, of which the first is a letter.
//
// Spec: appendices#common-namespaced-identifier-grammar
func IsNamespaced(s string) bool {
	if s == "" || len(s) > MaxIdentifierLength || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// IsOpaque says whether a text keeps to the Opaque Identifier Grammar: 1 to 255 characters of 0-9, A-Z, a-z, `-`, `.`, `_`
// and `~`.
//
// Spec: appendices#opaque-identifiers
func IsOpaque(s string) bool {
	if s == "" || len(s) > MaxIdentifierLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' && c != '~' {
			return false
		}
	}
	return true
}
