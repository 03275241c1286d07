package mail

import (
	"encoding/json"
	"errors"
	"fmt"

	"stoa/internal/sealed"
)

// purpose is that of package sealed. It is part of what is in the store.
const purpose = "stoa mail"

// seal encodes a mail for the outbox. Links in mails are secrets, so it is encrypted if
// there is a key.
func (m *Mailer) seal(key string, l letter) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode a mail: %w", err)
	}
	return sealed.Seal(m.opt.SecretKey, purpose, key, text)
}

func (m *Mailer) open(key string, payload []byte) (l letter, err error) {
	text, err := sealed.Open(m.opt.SecretKey, purpose, key, payload)
	switch {
	case errors.Is(err, sealed.ErrNoSecret), errors.Is(err, sealed.ErrOtherSecret):
		return l, errors.New("a mail in the outbox is encrypted with another secret_key")
	case errors.Is(err, sealed.ErrForm):
		return l, errors.New("a mail in the outbox is in a form that this version can't read")
	case err != nil:
		return l, err
	}
	return l, json.Unmarshal(text, &l)
}
