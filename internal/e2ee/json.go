package e2ee

import (
	"encoding/json"

	"stoa/matrix/canonicaljson"
)

func canonical(raw []byte) ([]byte, error) {
	return canonicaljson.Append(make([]byte, 0, len(raw)), raw)
}

// withoutUnsigned is the canonical form of an object without "unsigned".
func withoutUnsigned(raw json.RawMessage) (string, error) {
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", err
	}
	delete(o, "unsigned")
	out, err := canonicaljson.Marshal(o)
	return string(out), err
}

// signed is what both sides of a signature must agree on: the object without
// "signatures" and "unsigned".
func signed(raw []byte) (string, error) {
	var o Object
	if err := json.Unmarshal(raw, &o); err != nil {
		return "", err
	}
	delete(o, "unsigned")
	delete(o, "signatures")
	out, err := canonicaljson.Marshal(o)
	return string(out), err
}

// signatureMap is the "signatures" member of signed JSON.
type signatureMap map[string]map[string]string

func signaturesOf(raw []byte) (signatureMap, error) {
	var o struct {
		Signatures signatureMap `json:"signatures"`
	}
	err := json.Unmarshal(raw, &o)
	return o.Signatures, err
}

// dressed is a stored key as it is answered: with the signatures that came
// later, and with "unsigned" where a display name is given.
func dressed(stored string, more signatureMap, displayName string) (json.RawMessage, error) {
	if len(more) == 0 && displayName == "" {
		return json.RawMessage(stored), nil
	}
	var o Object
	if err := json.Unmarshal([]byte(stored), &o); err != nil {
		return nil, err
	}
	if len(more) > 0 {
		all, err := signaturesOf([]byte(stored))
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = signatureMap{}
		}
		for entity, byKey := range more {
			if all[entity] == nil {
				all[entity] = map[string]string{}
			}
			for key, signature := range byKey {
				all[entity][key] = signature
			}
		}
		if o["signatures"], err = json.Marshal(all); err != nil {
			return nil, err
		}
	}
	if displayName != "" {
		unsigned, err := json.Marshal(map[string]string{"device_display_name": displayName})
		if err != nil {
			return nil, err
		}
		o["unsigned"] = unsigned
	}
	return json.Marshal(o)
}
