package room

import (
	"errors"

	"stoa/internal/store"
	"stoa/internal/store/roomdb"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// relAnnotation is the relation of a reaction.
const relAnnotation = "m.annotation"

// annotationLimit bounds how many annotations of one user are examined.
const annotationLimit = 200

// checkRelation refuses a repeated annotation, and a thread whose root has a relation
// itself.
//
// Errors: M_DUPLICATE_ANNOTATION, M_UNKNOWN with 400.
//
// Spec: client-server-api#avoiding-duplicate-annotations, client-server-api#validation-of-mthread-relationships
func (t *turn) checkRelation(d Draft) error {
	if d.StateKey != nil {
		return nil
	}
	rel, ok := relationOf(d.Content)
	if !ok {
		return nil
	}
	switch rel.relType {
	case relAnnotation:
		return t.checkAnnotation(d, rel.target)
	case RelThread:
		root, err := t.parent(rel.target)
		if err != nil || root == nil {
			return err
		}
		if _, nested := relationOf(root.Content()); nested {
			return mxerr.Unknown("A thread can't start at an event that relates to another one").WithStatus(400)
		}
	}
	return nil
}

// checkAnnotation refuses a second annotation of an event with the same sender, type and
// key.
func (t *turn) checkAnnotation(d Draft, target id.EventID) error {
	keyOf := func(content []byte) string {
		key, _ := canonicaljson.String(canonicaljson.Get(canonicaljson.Get(content, "m.relates_to"), "key"))
		return key
	}
	var made []roomdb.Event
	err := t.reading(func(read *store.Read) error {
		rows, err := roomdb.RelationsBy(read, t.row.Num, target.String(), relAnnotation, d.Sender.String(), annotationLimit)
		if err != nil {
			return err
		}
		var nums []store.EventNum
		for _, row := range rows {
			if row.Type == d.Type {
				nums = append(nums, row.Event)
			}
		}
		made, err = roomdb.EventsByNum(read, nums)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for _, e := range made {
		pdu, err := t.rs.events.Parse(t.r.rules, e)
		if err != nil {
			return err
		}
		if keyOf(pdu.Content()) == keyOf(d.Content) {
			return mxerr.DuplicateAnnotation("You have made this annotation already")
		}
	}
	return nil
}
