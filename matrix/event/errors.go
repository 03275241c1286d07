package event

import "strconv"

// Kind says what is wrong with an event, so that callers can answer with the right errcode.
type Kind uint8

const (
	// BadJSON is an event that is not JSON, or not the JSON that its room version demands.
	BadJSON Kind = iota + 1
	// BadFormat is an event that does not comply with the event format of its room version.
	BadFormat
	// TooLarge is an event or a field over its size limit.
	TooLarge
)

// Error says why bytes are no event of a room version: check 1 of those on receipt of a PDU drops them.
//
// Spec: server-server-api#checks-performed-on-receipt-of-a-pdu
type Error struct {
	Kind Kind
	// Field is the top-level key concerned; "" for the whole event.
	Field string
	// Reason says what is wrong with it.
	Reason string
	// Cause is the error below; nil if there is none.
	Cause error
}

func (e *Error) Error() string {
	text := "event: " + e.Reason
	if e.Field != "" {
		text = "event: " + e.Field + ": " + e.Reason
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func badFormat(field, reason string) error {
	return &Error{Kind: BadFormat, Field: field, Reason: reason}
}

func tooLarge(field string, limit int) error {
	return &Error{Kind: TooLarge, Field: field, Reason: "it is larger than " + strconv.Itoa(limit) + " bytes"}
}
