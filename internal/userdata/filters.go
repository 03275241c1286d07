package userdata

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/internal/who"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/eventfilter"
	"stoa/matrix/mxerr"
)

// maxFilters bounds the filters of a user; beyond it the oldest half is deleted. Clients
// create one when they start, and again when it is gone.
const maxFilters = 1_000

// maxFilter bounds one filter, in bytes: the IDs of 300 rooms and users.
const maxFilter = 16 << 10

// AddFilter stores a filter and returns its ID; an equal filter has the same ID.
//
// Spec: client-server-api#post_matrixclientv3useruseridfilter
func (d *Data) AddFilter(ctx context.Context, user who.User, filter json.RawMessage) (string, error) {
	if len(filter) > maxFilter {
		return "", mxerr.TooLarge("A filter has at most %d bytes", maxFilter)
	}
	if _, err := eventfilter.Parse(filter); err != nil {
		return "", err
	}
	text, err := canonicaljson.AppendLoose(nil, filter)
	if err != nil {
		return "", mxerr.BadJSON("The filter is not usable").Because(err)
	}
	var number int64
	err = d.store.Read(ctx, func(r *store.Read) (err error) {
		number, err = userdb.FindFilter(r, user.UserNum, string(text))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		_, err = d.change(ctx, "add a filter", user, func(r *store.Read, c *store.Change) error {
			last, err := userdb.LastFilter(r, user.UserNum)
			if err != nil {
				return err
			}
			number = last + 1
			userdb.AddFilter(c, user.UserNum, number, string(text))
			if number%(maxFilters/2) == 0 {
				userdb.DeleteFiltersUpTo(c, user.UserNum, number-maxFilters)
			}
			return nil
		})
	}
	return strconv.FormatInt(number, 10), err
}

// Filter returns a stored filter, or M_NOT_FOUND.
//
// Spec: client-server-api#get_matrixclientv3useruseridfilterfilterid
func (d *Data) Filter(ctx context.Context, user who.User, filterID string) (json.RawMessage, error) {
	number, err := strconv.ParseInt(filterID, 10, 64)
	if err != nil {
		return nil, mxerr.NotFound("There is no filter %q", filterID)
	}
	var filter string
	err = d.store.Read(ctx, func(r *store.Read) (err error) {
		filter, err = userdb.Filter(r, user.UserNum, number)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, mxerr.NotFound("There is no filter %q", filterID)
	}
	return json.RawMessage(filter), err
}
