// Tables users and profiles, as the user directory reads them. Written by package
// account.

package store

// Person is an account as the user directory shows it.
type Person struct {
	User   UserNum
	UserID string
	// DisplayName and AvatarURL are JSON; "" for none.
	DisplayName, AvatarURL string
}

var selectPeople = Prepare(`SELECT u.num, u.user_id, COALESCE(n.value, ''), COALESCE(a.value, '') FROM users AS u
		LEFT JOIN profiles AS n ON n.user_num = u.num AND n.field = 'displayname'
		LEFT JOIN profiles AS a ON a.user_num = u.num AND a.field = 'avatar_url'
		WHERE u.account = 1 AND u.deactivated = 0 AND u.num > $1 ORDER BY u.num LIMIT $2`)

// People returns accounts that are in use, by number.
func (r *Read) People(after UserNum, limit int) ([]Person, error) {
	return Query(r, selectPeople, func(row *Row) (p Person) {
		row.Scan(&p.User, &p.UserID, &p.DisplayName, &p.AvatarURL)
		return p
	}, after, limit)
}
