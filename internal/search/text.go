package search

import (
	"strings"

	"stoa/internal/store/searchdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

// Key says which part of an event is searched.
type Key = searchdb.Key

// Keys of the search API.
const (
	Body  = searchdb.Body
	Name  = searchdb.Name
	Topic = searchdb.Topic
)

// textOf returns the part of an event that is searched, false if there is none. The text of
// an edit is the new one.
//
// Spec: client-server-api#room_events
func textOf(evType string, content []byte) (key Key, text string, ok bool) {
	switch evType {
	case event.TypeMessage:
		if relates := canonicaljson.Get(content, "m.relates_to"); stringOf(relates, "rel_type") == "m.replace" {
			if edited := canonicaljson.Get(content, "m.new_content"); edited != nil {
				content = edited
			}
		}
		text = stringOf(content, "body")
		text = join(text, stringOf(content, "filename"))
		key = Body
	case event.TypeName:
		key, text = Name, stringOf(content, "name")
	case event.TypeTopic:
		key, text = Topic, stringOf(content, "topic")
		text = join(text, plainTopic(content))
	}
	return key, text, strings.TrimSpace(text) != ""
}

// join adds another text, if it is not the same.
func join(text, more string) string {
	if more == "" || more == text {
		return text
	}
	return text + " " + more
}

// plainTopic is the text/plain form in m.topic; "" if there is none.
func plainTopic(content []byte) (text string) {
	forms := canonicaljson.Get(canonicaljson.Get(content, "m.topic"), "m.text")
	if !canonicaljson.IsArray(forms) {
		return ""
	}
	_ = canonicaljson.Array(forms, func(form []byte) error { // malformed: no text
		if kind := stringOf(form, "mimetype"); text == "" && (kind == "" || kind == "text/plain") {
			text = stringOf(form, "body")
		}
		return nil
	})
	return text
}

func stringOf(object []byte, key string) string {
	if !canonicaljson.IsObject(object) {
		return ""
	}
	s, _ := canonicaljson.String(canonicaljson.Get(object, key))
	return s
}
