// Table people_words, and the accounts for the user directory. Written by package account.

package userdb

import "stoa/internal/store"

var (
	selectPeople = store.Prepare(`SELECT u.num, u.user_id, COALESCE(n.value, ''), COALESCE(a.value, '') FROM users AS u
		LEFT JOIN profiles AS n ON n.user_num = u.num AND n.field = 'displayname'
		LEFT JOIN profiles AS a ON a.user_num = u.num AND a.field = 'avatar_url'
		WHERE u.account = 1 AND u.deactivated = 0 AND u.num > $1 ORDER BY u.num LIMIT $2`)
	selectPeopleByNum = store.Prepare(`SELECT u.num, u.user_id, COALESCE(n.value, ''), COALESCE(a.value, '') FROM users AS u
		LEFT JOIN profiles AS n ON n.user_num = u.num AND n.field = 'displayname'
		LEFT JOIN profiles AS a ON a.user_num = u.num AND a.field = 'avatar_url'
		WHERE {{in u.num $1}} AND u.account = 1 AND u.deactivated = 0`)
	selectWords      = store.Prepare(`SELECT word FROM people_words WHERE user_num = $1 ORDER BY word LIMIT 1000`)
	selectUsersByKey = store.Prepare(`SELECT user_num FROM people_words WHERE word >= $1 AND word < $2 ORDER BY word, user_num LIMIT $3`)
	insertWord       = store.Prepare(`INSERT INTO people_words (word, user_num) VALUES ($1, $2) ON CONFLICT (word, user_num) DO NOTHING`)
	deleteWords      = store.Prepare(`DELETE FROM people_words WHERE user_num = $1`)
)

// Person is an account in the user directory.
type Person struct {
	User   store.UserNum
	UserID string
	// DisplayName and AvatarURL are JSON; "" for none.
	DisplayName, AvatarURL string
}

func scanPerson(row *store.Row) (p Person) {
	row.Scan(&p.User, &p.UserID, &p.DisplayName, &p.AvatarURL)
	return p
}

// People returns active accounts, by number.
func People(r *store.Read, after store.UserNum, limit int) ([]Person, error) {
	return store.Query(r, selectPeople, scanPerson, after, limit)
}

// PeopleByNum returns those of some users that are active accounts, in no order.
func PeopleByNum(r *store.Read, users []store.UserNum) ([]Person, error) {
	return store.Query(r, selectPeopleByNum, scanPerson, users)
}

// UsersByWord returns users with an indexed word that begins with a key, those with the shortest words first, and how many
// rows were read: limit if there may be more.
func UsersByWord(r *store.Read, key string, limit int) (users []store.UserNum, rows int, err error) {
	seen := map[store.UserNum]bool{}
	err = store.QueryEach(r, selectUsersByKey, func(row *store.Row) error {
		rows++
		if user := store.Num[store.UserNum](row); !seen[user] {
			seen[user] = true
			users = append(users, user)
		}
		return nil
	}, []byte(key), append([]byte(key), 0xff), limit) // no UTF-8 text has this byte
	return users, rows, err
}

// WordsOf returns the indexed words of a user, sorted.
func WordsOf(r *store.Read, user store.UserNum) ([]string, error) {
	return store.Query(r, selectWords, func(row *store.Row) string { return string(row.Bytes()) }, user)
}

// SetWords replaces the indexed words of a user.
func SetWords(c *store.Change, user store.UserNum, words []string) {
	c.Exec(deleteWords, user)
	for _, w := range words {
		c.Exec(insertWord, []byte(w), user)
	}
}
