package pushrule

import "strings"

// parsePath cuts a dot-separated property path into property names: `content.m\.mentions.room` has three.
//
// Spec: appendices#dot-separated-property-paths
func parsePath(key string) []string {
	if strings.IndexByte(key, '\\') < 0 {
		return strings.Split(key, ".")
	}
	var path []string
	var name strings.Builder
	for i := 0; i < len(key); i++ {
		switch c := key[i]; {
		case c == '.':
			path = append(path, name.String())
			name.Reset()
		case c == '\\' && i+1 < len(key) && (key[i+1] == '.' || key[i+1] == '\\'):
			i++
			name.WriteByte(key[i])
		default:
			name.WriteByte(c)
		}
	}
	return append(path, name.String())
}
