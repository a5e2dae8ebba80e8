-- Health of a BucketGC, as kstatus would say it: observedGeneration, Ready, Stalled.
-- A suspended policy and one whose last cycle failed are Healthy on purpose: a cycle that fails at night must neither
-- block a sync nor degrade the application that owns the policy. Alerts are there for that.
local waiting = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return waiting
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  conditions[condition.type] = condition
end
if conditions.Stalled and conditions.Stalled.status == "True" then
  return { status = "Degraded", message = conditions.Stalled.message }
end
if conditions.Ready and conditions.Ready.status == "True" then
  local message = conditions.Ready.message or ""
  local last = conditions.LastCycleSucceeded
  if obj.spec.suspend then
    message = "Suspended"
  elseif last and last.status ~= "True" then
    message = "Last cycle: " .. (last.message or last.reason)
  end
  return { status = "Healthy", message = message }
end
return waiting
