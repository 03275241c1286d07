package room

// Resident counts the rooms in memory.
func (rs *Rooms) Resident() int {
	rs.resident.mu.Lock()
	defer rs.resident.mu.Unlock()
	return rs.resident.order.Len()
}
