// Package tables imports every package that has SQL, so that a test of the store
// can look at all statements.
//
// It owns nothing. Only tests import it. The invariant that matters: no package
// under store that prepares statements is missing here; internal/devtools/rules
// fails otherwise.
package tables

import (
	_ "stoa/internal/store/delayeddb"
	_ "stoa/internal/store/doctor" // reads all tables
	_ "stoa/internal/store/keydb"
	_ "stoa/internal/store/maildb"
	_ "stoa/internal/store/mediadb"  // keys
	_ "stoa/internal/store/mediadb"  // keys
	_ "stoa/internal/store/noticedb" // rooms of notices
	_ "stoa/internal/store/previewdb"
	_ "stoa/internal/store/pushdb"    // pushers
	_ "stoa/internal/store/pushdb"    // pushers
	_ "stoa/internal/store/pushdb"    // pushers
	_ "stoa/internal/store/readerdb"  // cursors and jobs
	_ "stoa/internal/store/readerdb"  // cursors and jobs
	_ "stoa/internal/store/readerdb"  // cursors and jobs
	_ "stoa/internal/store/readerdb"  // cursors and jobs
	_ "stoa/internal/store/reportdb"  // reports
	_ "stoa/internal/store/roomdb"    // rooms
	_ "stoa/internal/store/roomdb"    // rooms
	_ "stoa/internal/store/roomdb"    // rooms
	_ "stoa/internal/store/roomdb"    // rooms
	_ "stoa/internal/store/searchdb"  // the index of messages
	_ "stoa/internal/store/searchdb"  // the index of messages
	_ "stoa/internal/store/slidingdb" // connections of sliding sync
	_ "stoa/internal/store/userdb"    // users
	_ "stoa/internal/store/userdb"    // users
	_ "stoa/internal/store/userdb"    // users
	_ "stoa/internal/store/userdb"    // users
)
