package canonicaljson

// AppendMember appends one more key and value to an object that is open: dst ends with its '{' or with the value of the
// member before. The value must be canonical, and the key must come behind those that are there.
func AppendMember(dst []byte, key string, value []byte) []byte {
	return append(AppendKey(dst, key), value...)
}

// AppendKey is AppendMember for a value that the caller appends next.
func AppendKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(AppendString(dst, key), ':')
}

// AppendWith appends a canonical object in which a key has a value, in place of the one it had, if any. Object and value must
// be canonical.
func AppendWith(dst, object []byte, key string, value []byte) ([]byte, error) {
	start, done := len(dst), false
	dst = append(dst, '{')
	err := Object(object, func(k string, v []byte) error {
		if !done && k >= key {
			done = true
			dst = AppendMember(dst, key, value)
		}
		if k != key {
			dst = AppendMember(dst, k, v)
		}
		return nil
	})
	if err != nil {
		return dst[:start], err
	}
	if !done {
		dst = AppendMember(dst, key, value)
	}
	return append(dst, '}'), nil
}

// AppendWithout appends an object without some of its keys. The object must be canonical.
func AppendWithout(dst, object []byte, keys ...string) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '{')
	err := Object(object, func(k string, v []byte) error {
		for _, key := range keys {
			if k == key {
				return nil
			}
		}
		dst = AppendMember(dst, k, v)
		return nil
	})
	if err != nil {
		return dst[:start], err
	}
	return append(dst, '}'), nil
}
